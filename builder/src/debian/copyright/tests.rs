use proptest::prelude::*;

use super::*;

const HEADER: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n";

fn read(paragraphs: &str) -> Licence {
    licence("hello", format!("{HEADER}\n{paragraphs}").as_bytes())
}

fn declared(paragraphs: &str) -> String {
    read(paragraphs).declared.unwrap()
}

fn of_synopsis(synopsis: &str) -> String {
    declared(&format!("Files: *\nLicense: {synopsis}\n"))
}

/// Section 5.2.1 of the format, its example of `Files` paragraphs.
const OF_FILES: &str = "Files:\n *\nCopyright: 1975-2010 Ulla Upstream\nLicense: GPL-2+\n\nFiles:\n debian/*\n\
    Copyright: 2010 Daniela Debianizer\nLicense: GPL-2+\n\nFiles:\n debian/patches/fancy-feature\n\
    Copyright: 2010 Daniela Debianizer\nLicense: GPL-3+\n\nFiles:\n */*.1\nCopyright: 2010 Manuela Manpager\n\
    License: GPL-2+\n";

/// Example 1 of the format: a file under three licences.
const TRI_LICENSED: &str = "Files: src/js/editline/*\nCopyright: 1993, John Doe\n           1993, Joe Average\n\
    License: MPL-1.1 or GPL-2 or LGPL-2.1\n\nLicense: MPL-1.1\n [LICENSE TEXT]\n\nLicense: GPL-2\n [LICENSE TEXT]\n\n\
    License: LGPL-2.1\n [LICENSE TEXT]\n";

#[test]
fn examples_of_the_format_are_read() {
    for (paragraphs, expected) in [
        (OF_FILES, "GPL-2.0-or-later AND GPL-3.0-or-later"),
        (TRI_LICENSED, "GPL-2.0-only OR LGPL-2.1-only OR MPL-1.1"),
    ] {
        assert_eq!(declared(paragraphs), expected);
        assert!(read(paragraphs).texts.is_empty());
    }
}

/// Section 7.2 of the format.
#[test]
fn a_comma_changes_what_binds_closer() {
    for (synopsis, expected) in [
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-1+ or Artistic", "Artistic-1.0-Perl OR GPL-1.0-or-later"),
        ("GPL-2+ and BSD-3-clause", "BSD-3-Clause AND GPL-2.0-or-later"),
        ("ISC or Zlib and Expat", "ISC OR (MIT AND Zlib)"),
        ("ISC or Zlib, and Expat", "MIT AND (ISC OR Zlib)"),
        ("ISC and Zlib, or Expat", "MIT OR (ISC AND Zlib)"),
        (
            "GPL-2+ or Artistic-2.0, and BSD-3-clause",
            "BSD-3-Clause AND (Artistic-2.0 OR GPL-2.0-or-later)",
        ),
    ] {
        assert_eq!(of_synopsis(synopsis), expected, "{synopsis}");
    }
}

#[test]
fn names_are_those_of_the_format_or_of_spdx() {
    for (name, expected) in [
        ("Expat", "MIT"),
        ("expat", "MIT"),
        ("GPL-1", "GPL-1.0-only"),
        ("GPL-2.0+", "GPL-2.0-or-later"),
        ("GPL-3.0-or-later", "GPL-3.0-or-later"),
        ("LGPL-2+", "LGPL-2.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("Artistic-2", "Artistic-2.0"),
        ("Apache-2.0", "Apache-2.0"),
        ("MPL-1.1+", "MPL-1.1+"),
        ("BSD-2-clause", "BSD-2-Clause"),
        ("BSD-4-clause-UC", "BSD-4-Clause-UC"),
        ("CC0", "CC0-1.0"),
        ("zlib", "Zlib"),
        ("Zope-2.1", "ZPL-2.1"),
        ("PostgreSQL", "PostgreSQL"),
        ("CC-BY-SA-4", "CC-BY-SA-4.0"),
        ("Perl", "Artistic-1.0-Perl OR GPL-1.0-or-later"),
        (
            "GPL-2 with Linux-syscall-note exception",
            "GPL-2.0-only WITH Linux-syscall-note",
        ),
        ("GPL-3+ with Font exception", "GPL-3.0-or-later WITH Font-exception-2.0"),
        ("Apache-2.0 with LLVM exception", "Apache-2.0 WITH LLVM-exception"),
    ] {
        assert_eq!(of_synopsis(name), expected, "{name}");
    }
}

/// Each could be one of several licences; what SPDX means by the name is one of them, or none.
#[test]
fn what_is_not_certain_is_not_guessed() {
    for name in [
        "GPL",
        "LGPL",
        "Apache",
        "Artistic-1.0",
        "X11",
        "OPL-1+",
        "AFL-2",
        "PostgreSQL+",
        "Zope",
        "BSD",
        "MIT",
        "W3C",
        "Python",
        "public-domain",
        "CC0+",
        "GPL-2+ with OpenSSL exception",
        "GPL-3+ with Autoconf exception",
        "BSD-3-clause with Linux-syscall-note-2 exception",
        "(ISC or Zlib) and Expat",
        "ISC | Zlib",
        "ISC, Zlib and Expat",
        "ISC or",
        "and Expat",
        "ISC Zlib",
        "GPL-2+ with Font",
        "GPL-2+ without Font exception",
    ] {
        let found = read(&format!("Files: *\nLicense: {name}\n The words.\n .\n  More.\n"));
        let declared = found.declared.unwrap();
        assert!(declared.starts_with("LicenseRef-Debian-"), "{name}: {declared}");
        assert_eq!(found.texts.len(), 1, "{name}");
        assert_eq!(found.texts[&declared], "The words.\n\n More.", "{name}");
    }
}

#[test]
fn mit_is_what_its_words_are() {
    let expat = "Permission is hereby granted, free of charge, to any person obtaining a\n copy of this software and \
        associated documentation files (the \"Software\"),\n to deal in the Software without restriction, including \
        without limitation\n the rights to use, copy, modify, merge, publish, distribute, sublicense,\n and/or sell copies \
        of the Software, and to permit persons to whom the\n Software is furnished to do so, subject to the following \
        conditions:\n .\n The above copyright notice and this permission notice shall be included in\n all copies or \
        substantial portions of the Software.\n .\n THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, \
        EXPRESS OR\n IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,\n FITNESS FOR A PARTICULAR \
        PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE\n AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES \
        OR OTHER\n LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING\n FROM, OUT OF OR IN CONNECTION \
        WITH THE SOFTWARE OR THE USE OR OTHER\n DEALINGS IN THE SOFTWARE.\n";
    let inline = |text: &str| declared(&format!("Files: *\nLicense: MIT\n {text}"));
    assert_eq!(inline(expat), "MIT");
    assert_eq!(
        declared(&format!("Files: *\nLicense: MIT or ISC\n\nLicense: MIT\n {expat}")),
        "ISC OR MIT"
    );
    for (from, to) in [
        ("sublicense,", ""),
        ("to deal", "not to deal"),
        ("THE SOFTWARE IS PROVIDED", "It is provided"),
    ] {
        let other = inline(&expat.replacen(from, to, 1));
        assert!(other.starts_with("LicenseRef-Debian-mit-"), "{other}");
    }
}

#[test]
fn a_text_is_that_of_its_paragraph_else_the_one_that_stands_alone() {
    let alone = "\n\nLicense: Own\n Alone.\n\nLicense: Other\n Another.";
    let text = |files: &str| {
        let found = read(&format!("{files}{alone}"));
        assert!(
            found
                .texts
                .keys()
                .all(|name| found.declared.as_ref().unwrap().contains(name))
        );
        found.texts.into_values().collect::<Vec<_>>()
    };
    assert_eq!(text("Files: *\nLicense: own"), ["Alone."]);
    assert_eq!(text("Files: *\nLicense: Own\n Inline."), ["Inline."]);
    assert_eq!(text("Files: *\nLicense: Other or Own"), ["Another.", "Alone."]);
    assert_eq!(
        text("Files: *\nLicense: Own and Own-3\n Of both."),
        ["Of both.", "Alone."]
    );
    assert_eq!(
        text("Files: a\nLicense: Own\n A.\n\nFiles: b\nLicense: Own\n B.").len(),
        2
    );
    assert_eq!(
        text("Files: *\nLicense:\n Nameless.\n Of two lines."),
        ["Nameless.\nOf two lines."]
    );
}

/// `sha256sum` of the text without its last line break gives the twelve digits.
#[test]
fn a_reference_is_named_after_its_licence_and_text() {
    let found = read("Files: *\nLicense: GPL-2+ with OpenSSL exception\n abc\n");
    assert_eq!(
        found.declared.unwrap(),
        "LicenseRef-Debian-gpl-2-with-openssl-exception-ba7816bf8f01"
    );
}

#[test]
fn what_is_in_no_form_is_one_reference_with_the_whole_text() {
    let formless = [
        "This package is GPL-2+.\n".to_owned(),
        "Format: https://example.org/copyright-format/2.0/\n\nFiles: *\nLicense: Expat\n".into(),
        format!("{HEADER}\nFiles: *\nLicense: Expat\nPermission is granted to forget blanks.\n"),
        format!("{HEADER}\nFiles: *\nCopyright: nobody\n"),
        format!("{HEADER}\nFiles: *\nLicense: nowhere-to-be-found\n"),
        HEADER.into(),
    ];
    for text in formless {
        let found = licence("libstdc++6", text.as_bytes());
        let declared = found.declared.unwrap();
        assert!(
            declared.starts_with("LicenseRef-Debian-copyright-libstdc-6-"),
            "{declared}"
        );
        assert_eq!(
            found.texts.into_iter().collect::<Vec<_>>(),
            [(declared, text.trim_end().to_owned())]
        );
    }
    assert_eq!(licence("empty", b" \n"), Licence::default());
}

#[test]
fn a_file_without_a_licence_does_not_hide_that_others_have_one() {
    let found = declared("Files: a\nLicense: Expat\n\nFiles: b\nCopyright: somebody\n");
    let (whole, expat) = found.split_once(" AND ").unwrap();
    assert!(whole.starts_with("LicenseRef-Debian-copyright-hello-"), "{found}");
    assert_eq!(expat, "MIT");
}

#[test]
fn comments_and_blank_lines_of_blanks_part_nothing_that_belongs_together() {
    let text = "# first\nFiles: *\nLicense: Own\n One.\n# between\n Two.\n \t\nLicense: GPL-2\n Other.\n";
    let found = read(text);
    assert_eq!(found.texts.into_values().collect::<Vec<_>>(), ["One.\nTwo."]);
}

#[test]
fn what_is_not_utf_8_is_read_as_latin_1_and_says_so() {
    let text = [HEADER.as_bytes(), b"\nFiles: *\nLicense: Own\n J\xf6rg.\n"].concat();
    let found = licence("hello", &text);
    assert!(found.latin_1);
    assert_eq!(found.texts.into_values().collect::<Vec<_>>(), ["Jörg."]);
    assert!(!read("Files: *\nLicense: Expat\n").latin_1);
}

/// What dpkg-deb --contents shows of cpp-14, libncursesw6 and libpython3.13-dev, and other ways to say the same.
#[test]
fn a_linked_folder_is_that_of_another_package() {
    assert_eq!(path("hello"), "usr/share/doc/hello/copyright");
    for target in [
        "gcc-14-base",
        "../doc/gcc-14-base/",
        "/usr/share/doc/gcc-14-base",
        "../gcc-14-base/copyright",
    ] {
        let other = linked("cpp-14", target);
        assert_eq!(
            other.as_deref(),
            Some("usr/share/doc/gcc-14-base/copyright"),
            "{target}"
        );
    }
    for target in [
        "cpp-14",
        "../../../etc/shadow",
        "/etc",
        "..",
        ".",
        "",
        "a/b",
        "../..",
        "/usr/share/doc/",
    ] {
        assert_eq!(linked("cpp-14", target), None, "{target}");
    }
}

/// Deep, wide and repeated: each would take long, or much memory, if the work grew with the square of the file.
#[test]
fn a_hostile_file_takes_no_longer_than_its_size() {
    let many = |line: &str| line.repeat(100_000);
    let paragraph = |name: &str| format!("\nFiles: *\nLicense: {name}\n");
    let numbered: String = (0..20_000).map(|number| paragraph(&format!("own-{number}"))).collect();
    let alone = format!("\nLicense: big\n {}\n", "x".repeat(1 << 20));
    for text in [
        paragraph(&many("(")),
        paragraph(&many("ISC or ")),
        paragraph(&many("ISC, and ")),
        many("\nFiles: *\nLicense: Expat or BSD-2-clause\n"),
        numbered,
        format!("{}{alone}", paragraph("big").repeat(20_000)),
        many("License: x\n\n"),
        many("\n"),
    ] {
        let found = read(&text);
        assert!(spdx::Expression::parse(&found.declared.unwrap()).is_ok());
        let size: usize = found.texts.values().map(String::len).sum();
        assert!(size <= 2 * (text.len() + HEADER.len()), "{size}");
    }
}

/// A table that names what SPDX does not know would make a whole file fall back to its text, and nobody would notice.
#[test]
fn tables_name_what_spdx_knows() {
    for name in names::all() {
        assert!(spdx::Expression::parse(&name).is_ok(), "{name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_valid_expression(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        is_valid(&licence("hello", &bytes))?;
    }

    #[test]
    fn any_paragraphs_are_a_valid_expression(
        text in "((Files|License|X): ?((GPL-[23]|Expat|own|and|or|with|exception|,|\\+|\\(|é)[ ]?){0,8}\n( ?[a-z.#]{0,3}\n){0,3}\n?){0,6}"
    ) {
        is_valid(&read(&text))?;
    }
}

fn is_valid(found: &Licence) -> Result<(), TestCaseError> {
    let Some(declared) = &found.declared else {
        return Ok(());
    };
    let expression = spdx::Expression::parse(declared);
    prop_assert!(expression.is_ok(), "{declared}");
    let words = declared.split([' ', '(', ')']);
    let references: Vec<&str> = words.filter(|word| word.starts_with("LicenseRef-")).collect();
    prop_assert!(references.iter().all(|name| found.texts.contains_key(*name)));
    prop_assert!(found.texts.keys().all(|name| references.contains(&name.as_str())));
    Ok(())
}
