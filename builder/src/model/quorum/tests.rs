use data_encoding::BASE64;
use measure::Sha256;
use proptest::prelude::*;

use super::*;
use crate::model::key::SigningKey;
use crate::model::release::{FileName, MANIFEST, Stamp};

fn key(number: u8) -> PublicKey {
    SigningKey::from_random([number; 32]).unwrap().public()
}

fn id(number: u8) -> String {
    key(number).id().to_string()
}

fn manifest() -> Manifest {
    let stamp = |text: &str| Stamp {
        sha256: Sha256::of(text),
        size: 1,
    };
    let name = |name: &str| FileName::try_from(name.to_owned()).unwrap();
    Manifest {
        origin: Origin {
            name: "minimal".to_owned().try_into().unwrap(),
            epoch: "2026-09-12T00:00:00Z".parse().unwrap(),
            recipe: Sha256::of("recipe"),
            lock: Sha256::of("lock"),
        },
        files: [
            (name("rootfs.erofs"), stamp("root")),
            (name("vmlinuz"), stamp("kernel")),
        ]
        .into(),
    }
}

/// What whoever has this key says: the same as the manifest.
fn rebuild(number: u8) -> Rebuild {
    let manifest = manifest();
    let files = manifest.files.iter();
    let subjects = files.map(|(name, stamp)| (name.to_string(), stamp.sha256));
    let subjects = subjects.chain([(MANIFEST.to_owned(), manifest.digest())]);
    let said = Said {
        key: key(number),
        origin: manifest.origin.clone(),
        subjects: subjects.collect(),
    };
    Rebuild {
        file: format!("{number}"),
        said: Ok(said),
    }
}

fn changed(number: u8, change: impl FnOnce(&mut Said)) -> Rebuild {
    let mut rebuild = rebuild(number);
    change(rebuild.said.as_mut().unwrap());
    rebuild
}

fn codes(quorum: &str, rebuilds: &[Rebuild]) -> Vec<&'static str> {
    let quorum = Quorum::parse(quorum).unwrap();
    let verdict = evaluate(&quorum, &manifest(), rebuilds);
    verdict.findings.iter().map(Finding::code).collect()
}

/// Operators a, b, c, … with the keys 1, 2, 3, …
fn operators(count: u8) -> String {
    (0..count)
        .map(|n| format!("witness {} {}\n", char::from(b'a' + n), id(n + 1)))
        .collect()
}

/// The example of the specification, with keys and without its log: two of X, and any of Y.
fn nested() -> String {
    let witness = |name: &str, number| format!("witness {name} {}\n", id(number));
    let keys = [("X1", 1), ("X2", 2), ("X3", 3), ("Y1", 4), ("Y2", 5), ("Y3", 6)];
    let keys: String = keys.map(|(name, number)| witness(name, number)).concat();
    format!(
        "{keys}group X-witnesses 2 X1 X2 X3\n\ngroup Y-witnesses any Y1 Y2 Y3\n\
         group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
    )
}

#[test]
fn groups_of_groups_are_met_by_their_members() {
    for (votes, met) in [
        (&[1, 2, 4][..], true),
        (&[2, 3, 6], true),
        (&[1, 2, 3], false),
        (&[1, 4, 5, 6], false),
        (&[4, 5, 6], false),
        (&[], false),
    ] {
        let rebuilds: Vec<Rebuild> = votes.iter().map(|number| rebuild(*number)).collect();
        let wanted: &[&str] = if met { &[] } else { &["quorum-not-met"] };
        assert_eq!(codes(&nested(), &rebuilds), wanted, "{votes:?}");
    }
}

#[test]
fn two_rebuild_votes_of_one_operator() {
    let two_keys = format!(
        "witness a {}\nwitness a {}\nwitness b {}\ngroup g 2 a b\nquorum g\n",
        id(1),
        id(2),
        id(3)
    );
    assert_eq!(codes(&two_keys, &[rebuild(1), rebuild(2)]), ["quorum-not-met"]);
    assert_eq!(
        codes(&two_keys, &[rebuild(1), rebuild(1)]),
        ["quorum-not-met"],
        "two files"
    );
    assert_eq!(codes(&two_keys, &[rebuild(2), rebuild(3)]), [""; 0]);
    let two_names = format!("witness a {}\nwitness b {}\ngroup g 2 a b\nquorum g\n", id(1), id(1));
    assert!(refusal(&two_names).contains("a key that is named already, as one of a"));
    let spki = BASE64.encode(&key(1).spki());
    let two_forms = format!("witness a {}\nwitness b {spki}\ngroup g 2 a b\nquorum g\n", id(1));
    assert!(refusal(&two_forms).contains("a key that is named already, as one of a"));
    let two_members = format!("{}group g any a\ngroup h 2 g a\nquorum h\n", operators(1));
    assert!(refusal(&two_members).contains("a is a member already"));
}

#[test]
fn a_signed_disagreement_blocks() {
    let quorum = format!("{}group g 2 a b\nquorum g\n", operators(3));
    let other = |said: &mut Said| {
        said.subjects.insert("rootfs.erofs".into(), Sha256::of("other"));
        said.subjects.insert(MANIFEST.into(), Sha256::of("other"));
    };
    let agreeing = [rebuild(1), rebuild(2)];
    assert_eq!(codes(&quorum, &agreeing), [""; 0]);
    let blocked = [agreeing.as_slice(), &[changed(3, other)]].concat();
    assert_eq!(
        codes(&quorum, &blocked),
        ["rebuild-disagrees"],
        "c is in no group, and named"
    );
    let verdict = evaluate(&Quorum::parse(&quorum).unwrap(), &manifest(), &blocked);
    assert!(
        verdict.findings[0]
            .to_string()
            .contains("c says in 3 that rootfs.erofs came out otherwise")
    );
    let both = [agreeing.as_slice(), &[changed(1, other)]].concat();
    assert_eq!(codes(&quorum, &both), ["rebuild-disagrees"], "who agreed before");
    let stranger = [agreeing.as_slice(), &[changed(9, other)]].concat();
    assert_eq!(codes(&quorum, &stranger), [""; 0]);
}

#[test]
fn a_statement_about_fewer_or_more_files_does_not_agree() {
    let quorum = format!("{}quorum a\n", operators(1));
    let fewer = changed(1, |said| {
        said.subjects.remove("vmlinuz");
    });
    let more = changed(1, |said| {
        said.subjects.insert("evil".into(), Sha256::of("evil"));
    });
    for rebuild in [fewer, more] {
        assert_eq!(codes(&quorum, &[rebuild]), ["rebuild-disagrees", "quorum-not-met"]);
    }
}

#[test]
fn the_statement_of_another_release_counts_nothing() {
    let quorum = format!("{}quorum a\n", operators(1));
    let other = Sha256::of("other");
    let changes: [fn(&mut Said, Sha256); 2] = [
        |said, other| said.origin.lock = other,
        |said, other| said.origin.recipe = other,
    ];
    for change in changes {
        let rebuild = changed(1, |said| change(said, other));
        assert_eq!(
            codes(&quorum, &[rebuild]),
            ["rebuild-of-another-release", "quorum-not-met"]
        );
    }
}

#[test]
fn what_is_not_signed_counts_nothing() {
    let quorum = format!("{}quorum a\n", operators(1));
    let with = |fault| Rebuild {
        file: "1".into(),
        said: Err(fault),
    };
    let unsigned = with(Fault::SignatureInvalid { key: id(1) });
    assert_eq!(
        codes(&quorum, &[unsigned]),
        ["rebuild-signature-invalid", "quorum-not-met"]
    );
    let unreadable = with(Fault::Unreadable {
        why: "it is none".into(),
    });
    assert_eq!(codes(&quorum, &[unreadable]), ["rebuild-unreadable", "quorum-not-met"]);
}

#[test]
fn strangers_are_listed_and_count_nothing() {
    let quorum = Quorum::parse(&format!("{}quorum a\n", operators(1))).unwrap();
    let verdict = evaluate(&quorum, &manifest(), &[rebuild(7)]);
    let vote = Vote {
        file: "7".into(),
        key: id(7),
        operator: None,
        differs: None,
    };
    assert_eq!(verdict.votes, [vote]);
    assert_eq!(verdict.findings[0].code(), "quorum-not-met");
}

#[test]
fn a_quorum_of_none_asks_nobody_and_says_so() {
    assert_eq!(codes("quorum none\n", &[]), [""; 0]);
    assert!(!Quorum::parse("quorum none\n").unwrap().asks());
    assert!(Quorum::parse(&format!("{}quorum a\n", operators(1))).unwrap().asks());
}

fn refusal(text: &str) -> String {
    crate::mend::report(&Quorum::parse(text).expect_err(text))
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn any_other_grammar_is_refused() {
    let (key, other) = (id(1), id(2));
    let one = format!("witness a {key}\n");
    for (text, why) in [
        (String::new(), "it has no quorum line"),
        (one.clone(), "it has no quorum line"),
        (
            format!("{one}quorum a\nquorum a\n"),
            "line 3 of the quorum file: there is a quorum already",
        ),
        (format!("{one}quorum b\n"), "\"b\" is not defined above"),
        (format!("quorum a\n{one}"), "\"a\" is not defined above"),
        ("group g all g\nquorum g\n".into(), "\"g\" is not defined above"),
        (
            "group g all h\ngroup h all g\nquorum g\n".into(),
            "\"h\" is not defined above",
        ),
        (format!("{one}group g all\nquorum g\n"), "group has other parts"),
        (
            format!("{one}group g 0 a\nquorum g\n"),
            "a number from 1 to 1; found \"0\"",
        ),
        (
            format!("{one}group g 2 a\nquorum g\n"),
            "a number from 1 to 1; found \"2\"",
        ),
        (format!("{one}group g 01 a\nquorum g\n"), "found \"01\""),
        (format!("{one}group g +1 a\nquorum g\n"), "found \"+1\""),
        (
            format!("{one}group g 99999999999999999999999 a\nquorum g\n"),
            "found \"999",
        ),
        (
            format!("{one}group g all none\nquorum g\n"),
            "\"none\" is not defined above",
        ),
        (format!("{one}group a all a\nquorum a\n"), "the name \"a\" is taken"),
        (
            format!("{one}group none all a\nquorum none\n"),
            "the name \"none\" is taken",
        ),
        (
            format!("witness none {key}\nquorum none\n"),
            "the name \"none\" is taken",
        ),
        (
            format!("{one}group g all a\nwitness g {other}\nquorum g\n"),
            "the name \"g\" is taken",
        ),
        (format!("{one}group g any a a\nquorum g\n"), "a is a member already"),
        ("witness a\nquorum none\n".into(), "witness has other parts"),
        (
            format!("witness a {key} url more\nquorum none\n"),
            "witness has other parts",
        ),
        ("witness a example.org+fa571bb1+AQ==\nquorum a\n".into(), "is no key"),
        ("witness a SHA256:abcd\nquorum a\n".into(), "is no key"),
        ("log example.org+fa571bb1+AQ==\nquorum none\n".into(), "it names a log"),
        ("Quorum none\n".into(), "\"Quorum\" begins no line"),
        ("quorum none\r\n".into(), "the control character '\\r'"),
        ("quorum none # here\n".into(), "quorum has other parts"),
    ] {
        let report = refusal(&text);
        assert!(report.contains(why), "{text}: {report}");
    }
}

#[test]
fn spaces_comments_urls_and_other_letters_do_not_matter() {
    let text = format!(
        " \t# who\n\n\twitness  zoë\t{}   https://example.org \nquorum zoë",
        id(1)
    );
    assert_eq!(codes(&text, &[rebuild(1)]), [""; 0]);
}

proptest! {
    #[test]
    fn a_group_is_met_by_its_threshold(count in 1_u8..12, threshold in 1_u8..12, votes in 0_u16..4096) {
        prop_assume!(threshold <= count);
        let names: Vec<String> = (0..count).map(|n| char::from(b'a' + n).to_string()).collect();
        let text = format!("{}group g+ {threshold} {}\nquorum g+\n", operators(count), names.join(" "));
        let voting: Vec<u8> = (0..count).filter(|n| votes & 1 << n != 0).collect();
        let rebuilds: Vec<Rebuild> = voting.iter().map(|n| rebuild(n + 1)).collect();
        let verdict = evaluate(&Quorum::parse(&text).unwrap(), &manifest(), &rebuilds);
        prop_assert_eq!(verdict.findings.is_empty(), voting.len() >= usize::from(threshold));
        prop_assert_eq!(verdict.votes.len(), voting.len());
    }

    #[test]
    fn no_text_makes_it_panic(text in "(witness|group|quorum|log|none|any|[ab#0-9 \t\n])*") {
        let _ = Quorum::parse(&text);
    }
}
