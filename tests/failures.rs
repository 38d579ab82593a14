//! The table in `tests/README.md` says which tests stand against which failure: it names only tests that exist, names all
//! that name a failure, and leaves no failure out. After tests came or went, this writes it anew:
//! `FAILURES_TABLE=write cargo test --test main failures::`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What a row says as long as nothing else is to be said.
const NOTHING: &str = "No test yet";

/// A name and the file that it is in.
type Named = (String, String);

/// A row: the failure's code, what it is, and what stands against it.
struct Row {
    line: usize,
    code: String,
    failure: String,
    tests: Vec<Named>,
    reason: String,
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(package().join("tests/README.md")).expect("the table")
}

/// Whether this is a code such as `A2`.
fn is_code(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| "ABCDEFGP".contains(c)) && letters.as_str().parse::<u32>().is_ok()
}

fn table(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (line, text) in text.lines().enumerate() {
        let Some(inner) = text.strip_prefix("| ").and_then(|text| text.strip_suffix(" |")) else { continue };
        let cells: Vec<&str> = inner.split(" | ").collect();
        if let [code, failure, last] = cells[..]
            && is_code(code)
        {
            let (tests, reason) = named(last);
            rows.push(Row { line, code: code.to_owned(), failure: failure.to_owned(), tests, reason });
        }
    }
    rows
}

/// The names in backticks that a file in parentheses follows, each with that file, and the reason after them.
fn named(cell: &str) -> (Vec<Named>, String) {
    let mut named = Vec::new();
    let mut rest = cell;
    while let Some(end) = rest.find(".rs)") {
        let open = rest[..end].rfind('(').expect("a file in parentheses");
        let file = &rest[open + 1..end + 3];
        named.extend(rest[..open].split('`').skip(1).step_by(2).map(|name| (name.to_owned(), file.to_owned())));
        rest = &rest[end + 4..];
    }
    (named, rest.trim_start_matches(['.', ' ']).to_owned())
}

/// Whether its file has the test `name`, or the simulator's rare situation of that name.
fn exists((name, file): &Named) -> bool {
    let wanted = if name.starts_with(char::is_uppercase) { format!(" {name}: \"") } else { format!("fn {name}(") };
    fs::read_to_string(package().join(file)).is_ok_and(|source| source.contains(&wanted))
}

/// The tests that name failures, in lines such as `// A2, B4: why` before them.
fn tagged() -> BTreeMap<String, BTreeSet<Named>> {
    let mut found: BTreeMap<String, BTreeSet<Named>> = BTreeMap::new();
    for (path, source) in sources(&["src", "tests"]) {
        let (mut codes, mut is_test) = (Vec::new(), false);
        for line in source.lines().map(str::trim) {
            let said = line.strip_prefix("// ").map(|text| text.split([':', ' ']).next().unwrap_or_default());
            if said.is_some_and(|first| is_code(first.trim_end_matches(','))) {
                let list = line[3..].split(':').next().unwrap_or_default();
                codes = list.split(", ").filter(|code| is_code(code)).map(str::to_owned).collect();
            } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some((_, name)) = line.split_once("fn ").filter(|_| is_test) {
                let name = name.split('(').next().unwrap_or_default();
                for code in codes.drain(..) {
                    found.entry(code).or_default().insert((name.to_owned(), path.clone()));
                }
                is_test = false;
            } else if !line.is_empty() && !line.starts_with("//") && !line.starts_with("#[") {
                codes.clear();
            }
        }
    }
    found
}

/// The sources below these directories, each with its path in the package.
fn sources(below: &[&str]) -> Vec<(String, String)> {
    let mut waiting: Vec<PathBuf> = below.iter().map(|below| package().join(below)).collect();
    let mut sources = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).expect("read").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(package()).expect("in the package").display().to_string();
            sources.push((name, fs::read_to_string(&path).expect("read")));
        }
    }
    sources.sort();
    sources
}

impl Row {
    fn text(&self) -> String {
        let mut by_file: Vec<(&str, Vec<&str>)> = Vec::new();
        for (name, file) in &self.tests {
            match by_file.iter_mut().find(|(known, _)| known == file) {
                Some((_, names)) => names.push(name),
                None => by_file.push((file, vec![name])),
            }
        }
        let cells: Vec<String> =
            by_file.iter().map(|(file, names)| format!("`{}` ({file})", names.join("`, `"))).collect();
        let between = if cells.is_empty() || self.reason.is_empty() { "" } else { ". " };
        format!("| {} | {} | {}{between}{} |", self.code, self.failure, cells.join("; "), self.reason)
    }
}

#[test]
fn the_table_names_the_tests_that_exist_and_all_that_name_a_failure() {
    let (text, tagged) = (readme(), tagged());
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut count = 0;
    for mut row in table(&text) {
        let wanted = tagged.get(&row.code).cloned().unwrap_or_default();
        row.tests.retain(exists);
        row.tests.extend(wanted.into_iter().filter(|test| !row.tests.contains(test)).collect::<Vec<_>>());
        row.reason = match (row.tests.is_empty(), row.reason.as_str()) {
            (true, "") => NOTHING.to_owned(),
            (false, NOTHING) => String::new(),
            _ => row.reason,
        };
        count += row.tests.len();
        lines[row.line] = row.text();
    }
    assert!(count > 200, "{count} tests only");
    let anew = lines.join("\n") + "\n";
    if std::env::var_os("FAILURES_TABLE").is_some_and(|word| word == "write") {
        fs::write(package().join("tests/README.md"), anew).expect("written");
        return;
    }
    for (is, should) in text.lines().zip(anew.lines()) {
        assert_eq!(is, should, "`FAILURES_TABLE=write cargo test --test main failures::` writes the table anew");
    }
}

#[test]
fn the_table_leaves_no_failure_out() {
    let mut rows: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for Row { code, failure, tests, reason, .. } in table(&readme()) {
        assert!(failure.len() > 5, "{code} says too little");
        assert!(!tests.is_empty() || reason.len() > 4, "{code} has no test and no reason");
        let (letter, number) = code.split_at(1);
        rows.entry(letter.to_owned()).or_default().push(number.parse().expect("a number"));
    }
    for (letter, last) in [("A", 28), ("B", 27), ("C", 5), ("D", 17), ("E", 33), ("F", 16), ("G", 15), ("P", 6)] {
        assert_eq!(rows.remove(letter), Some((1..=last).collect()), "{letter}");
    }
    assert!(rows.is_empty(), "{rows:?}");
    for code in tagged().into_keys() {
        assert!(readme().contains(&format!("\n| {code} | ")), "a test names {code}, which the table does not have");
    }
}

// C2, E3, G5: what could not be made good by being careful is not there at all.
#[test]
fn nothing_maps_a_file_into_memory_or_believes_a_certificate_unchecked() {
    let sources = sources(&["src"]);
    assert!(sources.len() > 80);
    for (path, source) in sources {
        let found =
            ["memmap", "update_mmap", "danger_accept", "tls_danger"].iter().find(|word| source.contains(**word));
        assert_eq!(found, None, "{path}");
    }
    let lock = fs::read_to_string(package().join("Cargo.lock")).expect("the lock");
    assert!(!lock.contains("\"memmap"), "a dependency maps files");
}

// G14: what is built is what the lock names, from the registry, to the byte.
#[test]
fn every_dependency_comes_from_the_registry_with_its_checksum() {
    let lock = fs::read_to_string(package().join("Cargo.lock")).expect("the lock");
    let packages: Vec<&str> = lock.split("[[package]]\n").skip(1).collect();
    assert!(packages.len() > 200);
    for package in packages.into_iter().filter(|package| !package.starts_with("name = \"dstor-sync\"\n")) {
        let has = |line: &str| package.lines().any(|found| found.starts_with(line));
        assert!(has("source = \"registry+") && has("checksum = \""), "{package}");
    }
}
