use super::*;

/// A state directory that is gone afterwards.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Self {
        Self(std::env::temp_dir().join(format!("csm-images-{}-{test}", std::process::id())))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(DIRECTORY)).expect("a directory");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // Not there if nothing was written.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that says what a csmd says.
fn program(version: &str) -> Vec<u8> {
    format!(
        "#!/bin/sh\n[ \"$1\" = --identify ] || exit 1\n[ -z \"$3\" ] || /bin/grep -q good \"$3\" || {{ echo bad >&2; exit 2; }}\n\
         echo csmd {version} layout 7\n"
    )
    .into_bytes()
}

#[test]
fn a_program_comes_in_parts_goes_on_where_it_stopped_and_is_whole_or_not_there() {
    let dir = Dir::new("parts");
    let programs = Programs::new(&dir.0);
    let (octets, other) = (program("1.0"), program("2.0"));
    let (digest, length) = (Digest::of(&octets), octets.len() as u64);
    assert_eq!(programs.held(digest, length).expect("nothing"), 0);
    assert_eq!(programs.append(digest, 0, &octets[..10]).expect("a part"), 10);
    assert!(programs.append(digest, 11, &octets[11..]).is_err(), "a gap");
    // Another process goes on.
    let programs = Programs::new(&dir.0);
    assert_eq!(programs.held(digest, length).expect("a part"), 10);
    assert!(matches!(programs.admit(digest), Err(Unfit::Damaged(_))), "it is not whole");
    assert_eq!(programs.held(digest, length).expect("nothing"), 0, "begun anew");
    programs.append(digest, 0, &octets[..10]).expect("a part");
    // What was told twice is there once.
    programs.append(digest, 10, &octets[10..]).expect("the rest");
    programs.append(digest, 10, &octets[10..]).expect("the rest again");
    let named = programs.admit(digest).expect("whole");
    assert_eq!((named.octets, named.version.as_str()), (length, "csmd 1.0 layout 7"));
    assert_eq!(programs.held(digest, length).expect("all of it"), length);
    assert_eq!(programs.read(digest, 10).expect("a part"), &octets[10..]);
    // One begun and one whole; the first is let go when a third begins, the second when nobody names it.
    let digest_2 = Digest::of(&other);
    programs.append(Digest::of(b"x"), 0, b"x").expect("a part");
    programs.append(digest_2, 0, &other).expect("all of it");
    programs.admit(digest_2).expect("whole");
    programs.keep_only(&[digest_2]).expect("tidy");
    assert_eq!(dir.names(), [digest_2.to_string()]);
}

#[test]
fn whoever_dies_after_any_step_leaves_no_half_program_under_a_name_and_the_next_one_succeeds() {
    let octets = program("1.0");
    let digest = Digest::of(&octets);
    for done in 0..=STEPS.len() {
        let dir = Dir::new(&format!("steps-{done}"));
        let programs = Programs::new(&dir.0);
        programs.append(digest, 0, &octets).expect("all of it");
        for &step in &STEPS[..done] {
            programs.carry_out(step, digest, &mut None).expect("a step");
        }
        let named = programs.file(digest).is_file();
        assert_eq!(named, STEPS[..done].contains(&Step::Rename), "after {done} steps");
        assert!(!named || STEPS[..done].contains(&Step::SyncFile), "named before it is on the disk");
        assert_eq!(programs.admit(digest).expect("the next one").version, "csmd 1.0 layout 7");
        assert_eq!(dir.names(), [digest.to_string()], "after {done} steps");
    }
}

#[test]
fn what_is_damaged_or_no_csmd_is_refused_and_let_go() {
    let dir = Dir::new("unfit");
    let programs = Programs::new(&dir.0);
    for bad in [&b"#!/bin/sh\nexit 3\n"[..], b"#!/bin/sh\necho hello\n", b"\x7fELF", b"#!/nowhere\n"] {
        let digest = Digest::of(bad);
        programs.append(digest, 0, bad).expect("all of it");
        let refused = programs.admit(digest).expect_err("no csmd");
        assert!(matches!(refused, Unfit::NotACsmd(_)), "{refused}");
        assert_eq!(dir.names(), [""; 0]);
    }
    let good = program("1.0");
    let digest = Digest::of(&good);
    programs.append(digest, 0, &good).expect("all of it");
    programs.admit(digest).expect("whole");
    let config = dir.0.join("csm.cfg");
    fs::write(&config, "good\n").expect("written");
    assert_eq!(programs.proven(digest, Some(&config)).expect("fit"), programs.file(digest));
    fs::write(&config, "bad\n").expect("written");
    let refused = programs.proven(digest, Some(&config)).expect_err("a faulty configuration");
    assert!(refused.to_string().contains("exit status: 2: bad"), "{refused}");
    fs::write(programs.file(digest), b"damaged").expect("written");
    assert!(matches!(programs.proven(digest, None), Err(Unfit::Damaged(_))));
    assert_eq!(programs.held(digest, 100).expect("nothing"), 0, "it has to come again");
}
