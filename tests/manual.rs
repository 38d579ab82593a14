//! Manual pages and completions, as the programs that read them take them.

use std::fs;
use std::process::{Command, Stdio};

use crate::world::World;

/// A program that may not be there; continuous integration installs all of them.
fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_has_a_page_that_a_terminal_shows_without_complaint() {
    let world = World::new().await;
    let dir = world.base().join("made/man1");
    let said = world.run(&["man", "--all", dir.to_str().expect("UTF-8")]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let pages: Vec<_> = fs::read_dir(&dir).expect("the pages").map(|page| page.expect("a page").path()).collect();
    assert_eq!(said.stdout, format!("{} pages in `{}`\n", pages.len(), dir.display()));
    assert!(dir.join("dstor-sync.1").exists() && dir.join("dstor-sync-config-check.1").exists());
    for page in &pages {
        let text = fs::read_to_string(page).expect("read");
        for section in ["NAME", "SYNOPSIS", "OPTIONS", "EXAMPLES"] {
            assert!(text.contains(&format!(".SH {section}\n")), "{} lacks {section}: {text}", page.display());
        }
    }
    if !is_installed("groff") {
        return;
    }
    for page in &pages {
        let shown = Command::new("groff").args(["-man", "-Tutf8", "-ww"]).arg(page).output().expect("groff");
        let complaints = String::from_utf8_lossy(&shown.stderr);
        assert!(shown.status.success() && complaints.is_empty(), "{}: {complaints}", page.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_can_be_asked_for_by_its_command() {
    let world = World::new().await;
    let said = world.run(&["man", "root", "accept"]);
    assert_eq!(said.code, 0);
    assert!(said.stdout.contains(".TH DSTOR-SYNC-ROOT-ACCEPT 1"), "{}", said.stdout);
    let said = world.run(&["man", "frobnicate"]);
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    assert!(said.stderr.starts_with("error: there is no command `frobnicate`\nhint: "), "{}", said.stderr);
}

/// In each shell the word `res` is completed to both commands that begin so.
#[tokio::test(flavor = "multi_thread")]
async fn shells_complete_commands() {
    const BASH: &str = r#"source "$1"; COMP_WORDS=(dstor-sync res); COMP_CWORD=1
        _dstor__sync dstor-sync res dstor-sync; printf '%s\n' "${COMPREPLY[@]}""#;
    // It completes in interactive shells only: in one of its own, on a terminal of its own.
    const ZSH: &str = r#"zmodload zsh/zpty; zpty -b shell zsh -f -i
        zpty -w shell "PS1='> '; autoload -U compinit; compinit -u -D; source $1; print be''gun"
        zpty -r -m shell begun '*begun*'; zpty -n -w shell $'dstor-sync res\t\t'; said=
        for look in {1..600}; do
          zpty -r -t shell piece && said+=$piece
          [[ $said == *rescan*resume* ]] && break
          sleep 0.1
        done
        print -r -- $said; zpty -d shell"#;
    const FISH: &str = r#"source $argv[1]; complete -C "dstor-sync res""#;
    let world = World::new().await;
    for (shell, script) in [("bash", BASH), ("zsh", ZSH), ("fish", FISH)] {
        if !is_installed(shell) {
            continue;
        }
        let said = world.run(&["completions", shell]);
        assert_eq!(said.code, 0);
        let file = world.base().join(format!("completions.{shell}"));
        fs::write(&file, said.stdout).expect("written");
        let mut command = Command::new(shell);
        command.env("HOME", world.base()).args(["-c", script]);
        if shell != "fish" {
            command.arg(shell);
        }
        let ran = command.arg(&file).output().expect("it ran");
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(out.contains("rescan") && out.contains("resume"), "{shell}: {out}{err}");
        assert!(!out.contains("retry") && err.is_empty(), "{shell}: {out}{err}");
    }
}
