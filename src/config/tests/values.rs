//! What the value of a key has to be, and what is said of one that is not.

use super::*;

#[test]
fn wrong_kinds_of_values_are_told_with_the_right_one() {
    for (line, told) in [
        ("comment = 1", "`comment` in [[mirror]] is a whole number, not text"),
        ("hidden = \"yes\"", "`hidden` in [[mirror]] is text, not true or false"),
        ("exclude = \"*.tmp\"", "`exclude` in [[mirror]] is text, not a list of texts"),
        ("exclude = [1]", "`exclude` in [[mirror]] holds a whole number, not text"),
        ("max_file_size = 10", "`max_file_size` in [[mirror]] is a whole number, not a size"),
        ("max_file_size = \"big\"", "`max_file_size` in [[mirror]] is no size: `big`"),
        ("max_file_size = \"0 B\"", "`max_file_size` in [[mirror]] is too small: `0 B`"),
        ("poll = 30", "`poll` in [[mirror]] is a whole number, not true, false or a duration"),
        ("poll = \"0s\"", "`poll` in [[mirror]] is too short: `0s`"),
        ("rescan = \"9s\"", "`rescan` in [[mirror]] is too short: `9s`"),
        ("rescan = \"never\"", "`rescan` in [[mirror]] is no duration: `never`"),
        ("symlinks = \"copy\"", "`symlinks` in [[mirror]] cannot be `copy`"),
        ("remote_id = -1", "`remote_id` in [[mirror]] is out of range: `-1`"),
        ("remote_id = \"7\"", "`remote_id` in [[mirror]] is text, not a whole number"),
        ("remote = \"a/../b\"", "`remote` in [[mirror]] is no directory on dStor: `a/../b`: a part of the path"),
    ] {
        let refusal = in_mirror(line);
        assert!(refusal.starts_with(&format!("TOP/c/config.toml:3: {told}")), "{line}: {refusal}");
        assert!(refusal.contains("hint: ") && refusal.lines().count() == 2, "{line}: {refusal}");
    }
    for (lines, told) in [
        ("[dstor]\ntoken_lifetime = \"0s\"", "`token_lifetime` in [dstor] is too short: `0s`"),
        ("[dstor]\napi_key_file = \"\"", "`api_key_file` in [dstor]: an empty path"),
        ("[dstor]\nemail = \"a b\"\npassword_file = \"p\"", "`email` in [dstor] is no address: `a b`"),
        ("[watch]\nsettle = 2", "`settle` in [watch] is a whole number, not a duration"),
        ("[watch]\nmax_delay = \"1s\"", "`max_delay` in [watch] is shorter than `settle`"),
        ("[watch]\nsettle = \"61s\"", "`max_delay` in [watch] is shorter than `settle`"),
        ("[upload]\nworkers = 0", "`workers` in [upload] is out of range: `0`"),
        ("[upload]\nworkers = 99999999999999999999999", "`workers` in [upload] is out of range: `999"),
        ("[upload]\nretry_max_delay = \"999ms\"", "`retry_max_delay` in [upload] is too short: `999ms`"),
        ("[upload]\nstall_timeout = \"0s\"", "`stall_timeout` in [upload] is too short: `0s`"),
        ("[upload]\nshutdown_grace = \"-1s\"", "`shutdown_grace` in [upload] is no duration: `-1s`"),
        ("[verify]\nbudget = \"100 MiB\"", "`budget` in [verify] is no size a day: `100 MiB`"),
        ("[verify]\nbudget = \"0 B/day\"", "`budget` in [verify] is too small: `0 B/day`"),
        ("[verify]\nbudget = 5", "`budget` in [verify] is a whole number, not text"),
        ("[upload]\nsessions = \"sometimes\"", "`sessions` in [upload] cannot be `sometimes`"),
    ] {
        let refusal = in_section(lines);
        assert!(refusal.contains(&format!(": {told}")), "{lines}: {refusal}");
        assert!(refusal.starts_with("TOP/c/config.toml:") && refusal.lines().count() == 2, "{lines}: {refusal}");
    }
    insta::assert_snapshot!(refusal("mirror = 1\nwatch = []\n[[dstor]]"), @r"
    TOP/c/config.toml:1: `mirror` in the configuration is a whole number, not a list of sections
      hint: write each as [[mirror]]
    TOP/c/config.toml:2: `watch` in the configuration is a list, not a section
      hint: write it as [watch]
    TOP/c/config.toml:3: `dstor` in the configuration is a list, not a section
      hint: write it as [dstor]
    ");
    insta::assert_snapshot!(refusal("mirror = [1]"), @r"
    TOP/c/config.toml:1: `mirror` in the configuration is a whole number, not a list of sections
      hint: write each as [[mirror]]
    ");
}

#[test]
fn what_is_not_built_yet_is_refused() {
    insta::assert_snapshot!(in_mirror("symlinks = \"follow\""), @r#"
    TOP/c/config.toml:3: symlinks = "follow" is not supported by this version
      hint: symlinks = "skip" leaves links out
    "#);
}

#[test]
fn a_limit_that_is_none_is_refused_with_what_would_be_one() {
    insta::assert_snapshot!(in_section("[upload]\nbandwidth = \"2 MiB\""), @r#"
    TOP/c/config.toml:3: `bandwidth` is "2 MiB", which is no limit
      hint: such as "2 MiB/s", or by the time of day "08:00 512 KiB/s, 18:00 none"; "" means no limit
    "#);
}

#[test]
fn a_mirror_has_a_path_and_one_place_on_dstor() {
    insta::assert_snapshot!(refusal("[[mirror]]\nremote = \"a\""), @r#"
    TOP/c/config.toml:1: [[mirror]] has no `path`
      hint: add path = "…", the directory to mirror
    "#);
    insta::assert_snapshot!(in_mirror("remote = \"a\"\nremote_id = 7"), @r"
    TOP/c/config.toml:4: [[mirror]] has both `remote` and `remote_id`
      hint: keep one of them: `remote` is a path on dStor, `remote_id` a number
    ");
    insta::assert_snapshot!(refusal("[[mirror]]\npath = \"/\""), @r#"
    TOP/c/config.toml:2: `/` has no name that a directory on dStor could have
      hint: add remote = "…", its directory on dStor
    "#);
    insta::assert_snapshot!(refusal("[[mirror]]\npath = \"~me/docs\""), @r"
    TOP/c/config.toml:2: `path` in [[mirror]]: `~me/docs` is no path: only `~/` stands for a home directory
      hint: write the path in full, or put `./` before a name that begins with `~`
    ");
    insta::assert_snapshot!(refusal("[[mirror]]\npath = \"config.toml\""), @r"
    TOP/c/config.toml:1: the mirror `TOP/c/config.toml` is not a directory
      hint: mirror the directory it lies in: TOP/c
    ");
    insta::assert_snapshot!(refusal("[watch]"), @r#"
    the configuration `TOP/c/config.toml` names no mirror
      hint: add [[mirror]] with path = "…", the directory to mirror
    "#);
    assert!(refusal("mirror = []").contains("names no mirror"));
    let dots = World::with("[[mirror]]\npath = \"../docs/.\"\n[[mirror]]\npath = \"../docs/../photos/../photos/..\"");
    assert!(dots.refusal().contains("holds the mirror `TOP/docs`"));
}

#[test]
fn a_mirror_is_named_after_its_directory_as_it_is_written() {
    let world = World::with("[[mirror]]\npath = \"../link\"");
    symlink("photos", world.top.join("link")).expect("new");
    let mirror = &world.config().mirrors[0];
    assert_eq!((mirror.path.clone(), mirror.policy.placement.to_string()), (world.top.join("photos"), "link".into()));
}

#[test]
fn a_pattern_that_is_none_is_told_with_its_mirror_and_line() {
    insta::assert_snapshot!(in_mirror("exclude = [\"*.tmp\",\n  \"a{\"]"), @r#"
    TOP/c/config.toml:4: `exclude` of the mirror `TOP/docs`: the pattern `a{` is no rule: error parsing glob 'a{': unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)
      hint: the syntax is gitignore's, such as "*.tmp" or "cache/"
    "#);
}

#[test]
fn a_key_and_a_login_are_one_too_many_and_half_a_login_one_too_few() {
    insta::assert_snapshot!(in_section("[dstor]\napi_key_file = \"k\"\nemail = \"a@b\"\npassword_file = \"p\""), @r"
    TOP/c/config.toml:4: [dstor] has both an API key and a login
      hint: give either `api_key_file` or `email` and `password_file`
    ");
    insta::assert_snapshot!(in_section("[dstor]\nemail = \"a@b\""), @r"
    TOP/c/config.toml:3: [dstor] has `email` without `password_file`
      hint: name the file with the password, or use `api_key_file`
    ");
    insta::assert_snapshot!(in_section("[dstor]\npassword_file = \"p\""), @r"
    TOP/c/config.toml:3: [dstor] has `password_file` without `email`
      hint: give the account's e-mail address, or use `api_key_file`
    ");
    insta::assert_snapshot!(in_section("[dstor]\napi_key_file = \"k\"\npassword_file = \"p\""), @r"
    TOP/c/config.toml:4: [dstor] has both an API key and a login
      hint: give either `api_key_file` or `email` and `password_file`
    ");
}

// E3
#[test]
fn a_ca_file_that_is_not_there_holds_nothing_or_is_open_to_others_is_refused() {
    insta::assert_snapshot!(in_section("[dstor]\nca_file = \"none.pem\""), @r"
    TOP/c/config.toml:3: the CA file `TOP/c/none.pem` does not exist
      hint: correct `ca_file`, or leave it out to trust the system's authorities alone
    ");
    let world = World::with("mirror = [{ path = \"TOP/docs\" }]\n[dstor]\nca_file = \"ca.pem\"");
    world.write("c/ca.pem", "hello", 0o644);
    insta::assert_snapshot!(world.refusal(), @r"
    TOP/c/config.toml:3: the CA file `TOP/c/ca.pem` cannot be used: no certificate is in it
      hint: it holds certificates in PEM: -----BEGIN CERTIFICATE----- and so on
    ");
    world.write("c/ca.pem", "hello", 0o666);
    insta::assert_snapshot!(world.refusal(), @r"
    TOP/c/config.toml:3: others can write the CA file `TOP/c/ca.pem` (mode 0666)
      hint: chmod go-w TOP/c/ca.pem
    ");
}

/// Of an age key that was made for this test and is used for nothing else.
const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

#[test]
fn recipients_are_public_keys_each_once_and_an_empty_list_is_nobody() {
    let with = |lines: &str| World::with(&format!("{lines}\n[[mirror]]\npath = \"TOP/docs\"")).config().encrypt;
    let two = with(&format!("[encrypt]\nrecipients = [\"{RECIPIENT}\", \" {RECIPIENT}\"]")).recipients;
    assert_eq!(two.expect("there is one").names().collect::<Vec<_>>(), [RECIPIENT]);
    assert_eq!(with("[encrypt]\nrecipients = []").recipients, None);
    assert_eq!(with("").recipients, None);
    assert!(!with("").names);
    assert!(with(&format!("[encrypt]\nnames = true\nrecipients = [\"{RECIPIENT}\"]")).names);
}

// G1
#[test]
fn what_is_no_public_key_is_told_with_its_line_and_a_private_one_is_never_repeated() {
    let secret = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
    for (entry, told) in [
        (secret, "is a private key"),
        (&secret.to_lowercase(), "is a private key"),
        (&RECIPIENT[..60], "begins like a public key of age, and is damaged"),
        ("ssh-ed25519 AAAAC3Nz", "is a key of a kind that this version does not encrypt to"),
        ("hunter2", "is no public key of age"),
    ] {
        let refusal = in_section(&format!("[encrypt]\nrecipients = [\n\"{RECIPIENT}\",\n\"{entry}\"]"));
        let place = "TOP/c/config.toml:5: an entry of `recipients` in [encrypt] ";
        assert!(refusal.starts_with(&format!("{place}{told}")), "{refusal}");
        assert!(refusal.contains("hint: ") && refusal.lines().count() == 2, "{refusal}");
        assert!(!refusal.to_lowercase().contains(&entry.to_lowercase()), "it is repeated: {refusal}");
    }
    let refusal = in_section(&format!("[encrypt]\nrecipients = \"{secret}\""));
    assert!(refusal.contains("is text, not a list of texts") && !refusal.contains(secret), "{refusal}");
    insta::assert_snapshot!(in_section("[encrypt]\nrecipients = []\nnames = true"), @r"
    TOP/c/config.toml:2: `names` in [encrypt] is true, and `recipients` in [encrypt] names nobody
      hint: names are hidden only where files are encrypted: name a public key, or leave `names` out
    ");
    insta::assert_snapshot!(in_section("[encrypt]"), @r#"
    TOP/c/config.toml:2: [encrypt] has no `recipients`, so nothing would be encrypted
      hint: add recipients = ["age1…"], the public keys; `dstor-sync key generate FILE` makes one
    "#);
}
