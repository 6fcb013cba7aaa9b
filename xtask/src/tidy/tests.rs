//! Each rule fires where it should, and nowhere else.

use super::*;

/// The messages for one file in a small tree.
fn faults(file: &str, text: &str) -> Vec<String> {
    let files =
        BTreeSet::from(["README.md", "docs/testing.md", "csm-user/src/ft/task.rs", "xtask/src/main.rs"]);
    let commands = BTreeSet::from(["run".to_owned(), "test".to_owned()]);
    let tree = Tree { files: &files, commands: &commands, root: "/srv/clone".to_owned() };
    let mut faults = Vec::new();
    tree.check_file(file, text, &mut faults);
    faults.iter().map(ToString::to_string).collect()
}

fn assert_fault(file: &str, text: &str, expected: &str) {
    let found = faults(file, text);
    assert!(found.len() == 1 && found[0].contains(expected), "{file}: {text:?} gave {found:?}");
}

fn assert_clean(file: &str, text: &str) {
    assert_eq!(faults(file, text), Vec::<String>::new(), "{file}: {text:?}");
}

#[test]
fn a_clock_stands_only_in_a_shell() {
    let text = "let now = Instant::now();\n";
    assert_fault(
        "csm-user/src/ft/election.rs",
        text,
        "csm-user/src/ft/election.rs:1: `Instant::now` in pure code",
    );
    assert_clean("csm-user/src/ft/task.rs", text);
    assert_clean("csm-user/src/ft/task/handle.rs", text);
    assert_clean("csm-user/src/daemon/startup.rs", text);
    assert_clean("csm-user/src/bin/csmd.rs", text);
    assert_clean("tests/src/wait.rs", text);
}

#[test]
fn comments_tests_and_longer_names_are_not_meant() {
    let file = "csm-user/src/ft/election.rs";
    assert_clean(file, "//! Never waits on tokio::time.\n");
    assert_clean(file, "use crate::himalaya::snow;\n");
    assert_clean(file, "#[cfg(test)]\nmod tests { use std::fs; }\n");
    assert_clean("csm-user/src/ft/election/tests.rs", "use std::fs;\n");
    assert_fault(file, "use std::fs;\n", "`std::fs` in pure code");
    assert_clean(file, "use std::fs_like;\n");
}

#[test]
fn features_do_not_import_one_another() {
    assert_fault("csm-user/src/probe/health.rs", "use crate::ft::Role;\n", "`ft`: route it through daemon/");
    assert_clean("csm-user/src/ft/election.rs", "use crate::ft::Role;\n");
    assert_clean("csm-user/src/daemon/mod.rs", "use crate::ft::Role;\n");
    assert_clean("csm-user/src/probe/health.rs", "use crate::model::Real;\n");
}

#[test]
fn a_file_ends_at_its_limit() {
    assert_clean("a.rs", &"\n".repeat(LINES_MAX));
    assert_fault("a.rs", &"\n".repeat(LINES_MAX + 1), "split it");
    assert_clean("csm-user/src/config/table.rs", &"\n".repeat(LINES_MAX + 1));
    assert_clean("a.svg", &"\n".repeat(LINES_MAX + 1));
}

#[test]
fn nothing_is_left_undone() {
    for word in UNDONE {
        assert_fault("a.toml", &format!("# {word}\n"), word);
    }
}

#[test]
fn nothing_names_the_machine() {
    for place in MACHINE {
        assert_fault("a.md", &format!("see {place}x\n"), "belongs to one machine");
    }
    assert_fault("a.rs", "// in /srv/clone/target\n", "`/srv/clone` belongs to one machine");
    assert_clean("Cargo.lock", &format!("{}\n", MACHINE[0]));
}

#[test]
fn documents_name_only_what_exists() {
    assert_clean("README.md", "Type `cargo xtask run`, or `cargo xtask` alone.\n");
    assert_fault("README.md", "Type `cargo xtask fly`.\n", "there is no `cargo xtask fly`");
    assert_clean(
        "README.md",
        "See `csm-user/src/ft/task.rs`, `docs/` and `/etc/csm`, or [tests](docs/testing.md).\n",
    );
    assert_fault("README.md", "See `csm-user/src/ft/wire.rs`.\n", "there is no `csm-user/src/ft/wire.rs`");
    assert_fault("README.md", "See [tests](docs/tests.md#levels).\n", "a link to `docs/tests.md`");
    assert_clean("docs/testing.md", "See [the start](../README.md) and [the web](https://example.org/a).\n");
    assert_clean("README.md", "```\ncat `csm-user/src/ft/wire.rs`\n```\n");
}
