//! Maintainer scripts as data: the commands that the text of one names, with every value that its own text gives to their
//! variables. Nothing runs. What only a run would tell (a command's output, a parameter of the script) is unknown.

use std::collections::BTreeMap;

/// How many values a command may take by the variables in it; more are left out.
const VALUES: usize = 256;

/// How far variables are followed into the values of others.
const DEPTH: usize = 3;

/// The words of a command; none where its value is unknown.
pub type Words = Vec<Option<String>>;

/// Returns the commands of a shell script of the package `name`, in their order, once for each value of their variables.
pub fn commands(text: &str, name: &str) -> Vec<Words> {
    let script = Script::read(text, name);
    let commands = script.commands.iter();
    commands.flat_map(|command| script.expand(command, DEPTH)).collect()
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    Variable(String),
    Unknown,
}

/// A word, and whether it is split where the values of its variables have spaces.
#[derive(Clone, Debug, Default)]
struct Word {
    parts: Vec<Part>,
    quoted: bool,
}

#[derive(Debug)]
struct Command {
    words: Vec<Word>,
    /// The function that it is in, whose parameters are `$1` and so on.
    function: Option<String>,
}

#[derive(Debug)]
struct Script {
    commands: Vec<Command>,
    variables: BTreeMap<String, Vec<Word>>,
}

type Values = BTreeMap<String, String>;

impl Script {
    fn read(text: &str, name: &str) -> Self {
        let word = |text: &str| Word {
            parts: vec![Part::Text(text.into())],
            quoted: true,
        };
        let own = [("DPKG_MAINTSCRIPT_PACKAGE", name), ("DPKG_ROOT", ""), ("DESTDIR", "")];
        let own = own.map(|(name, value)| (name.to_owned(), vec![word(value)]));
        let mut script = Self {
            commands: Vec::new(),
            variables: own.into(),
        };
        let (mut function, mut before) = (None, None);
        for words in Lexer::new(text).commands() {
            function = match words.first().and_then(Word::text).as_deref() {
                Some("}") => None,
                Some("{") if before.is_some() => before.take(),
                _ => function,
            };
            before = words.iter().rev().find_map(Word::text).filter(|_| words.len() == 1);
            script.add(words, function.clone());
        }
        script
    }

    /// Takes in a command, without the words of the shell before it.
    fn add(&mut self, words: Vec<Word>, function: Option<String>) {
        const SHELL: [&str; 11] = [
            "if", "then", "else", "elif", "do", "while", "until", "!", "time", "{", "}",
        ];
        let is_shell = |word: &Word| word.text().is_some_and(|text| SHELL.contains(&text.as_str()));
        let mut words = words.into_iter().skip_while(is_shell).peekable();
        if words.peek().and_then(Word::text).as_deref() == Some("for") {
            let name = words.nth(1).and_then(|word| word.text());
            let values: Vec<Word> = words.skip(1).collect();
            self.variables
                .entry(name.unwrap_or_default())
                .or_default()
                .extend(values);
            return;
        }
        let words: Vec<Word> = words.collect();
        let assigned = words.iter().take_while(|word| {
            let text = word.text();
            word.assignment().is_some() || text.is_some_and(|text| ["local", "export", "readonly"].contains(&&*text))
        });
        let count = assigned.clone().count();
        for (name, value) in assigned.filter_map(Word::assignment) {
            self.variables.entry(name).or_default().push(value);
        }
        let words = words[count..].to_vec();
        if !words.is_empty() {
            self.commands.push(Command { words, function });
        }
    }

    /// The command with each value of its variables.
    fn expand(&self, command: &Command, depth: usize) -> Vec<Words> {
        let given = self.parameters(command, depth);
        let values = given
            .into_iter()
            .flat_map(|values| self.values(values, &command.words, depth));
        let values = values.take(VALUES);
        values
            .map(|values| command.words.iter().flat_map(|word| word.fields(&values)).collect())
            .collect()
    }

    /// What the parameters of the command's function are, for each call of that.
    fn parameters(&self, command: &Command, depth: usize) -> Vec<Values> {
        let Some(function) = command.function.as_deref().filter(|_| depth > 0) else {
            return vec![Values::new()];
        };
        let calls = self.commands.iter().filter(|call| {
            call.words.len() > 1
                && call.function.as_deref() != Some(function)
                && call.words[0].text().as_deref() == Some(function)
        });
        let calls: Vec<Words> = calls
            .flat_map(|call| self.expand(call, depth - 1))
            .take(VALUES)
            .collect();
        let values = calls.into_iter().map(|words| {
            let words = words.into_iter().enumerate().skip(1);
            words
                .filter_map(|(number, word)| Some((number.to_string(), word?)))
                .collect()
        });
        Some(values.collect())
            .filter(|calls: &Vec<Values>| !calls.is_empty())
            .unwrap_or(vec![Values::new()])
    }

    /// `known`, with each value of the variables of some words.
    fn values(&self, known: Values, words: &[Word], depth: usize) -> Vec<Values> {
        let mut all = vec![known];
        for name in words.iter().flat_map(Word::variables) {
            let (mut next, given) = (Vec::new(), self.variables.get(name).map_or(&[][..], Vec::as_slice));
            for values in all {
                if depth == 0 || given.is_empty() || values.contains_key(name) {
                    next.push(values);
                    continue;
                }
                for word in given {
                    if next.len() >= VALUES {
                        break;
                    }
                    let inner = self.values(values.clone(), std::slice::from_ref(word), depth - 1);
                    next.extend(inner.into_iter().flat_map(|values| with(name, word, values)));
                }
            }
            next.truncate(VALUES);
            all = next;
        }
        all
    }
}

/// The values of others, with each field of `word` as the value of the variable `name`.
fn with(name: &str, word: &Word, values: Values) -> Vec<Values> {
    let fields = word.fields(&values).into_iter().flatten();
    let of_field = |field: String| values.clone().into_iter().chain([(name.to_owned(), field)]).collect();
    let with: Vec<Values> = fields.map(of_field).collect();
    if with.is_empty() { vec![values] } else { with }
}

impl Word {
    /// Its text, if it has no variable.
    fn text(&self) -> Option<String> {
        let text = self.parts.iter().map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Variable(_) | Part::Unknown => None,
        });
        text.collect()
    }

    fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Text(_) | Part::Unknown => None,
        })
    }

    /// `NAME=VALUE`.
    fn assignment(&self) -> Option<(String, Self)> {
        let Part::Text(first) = self.parts.first()? else {
            return None;
        };
        let (name, rest) = first.split_once('=')?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            return None;
        }
        let rest = [Part::Text(rest.into())]
            .into_iter()
            .chain(self.parts[1..].iter().cloned());
        let parts = rest.collect();
        Some((name.into(), Self { parts, quoted: true }))
    }

    /// What it is with these values: one word, or several where a variable is split.
    fn fields(&self, values: &Values) -> Words {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Variable(name) => values.get(name).map(String::as_str),
            Part::Unknown => None,
        });
        let whole: Option<String> = parts.collect();
        match whole {
            Some(text) if !self.quoted && self.variables().next().is_some() => {
                text.split_whitespace().map(|field| Some(field.to_owned())).collect()
            }
            whole => vec![whole],
        }
    }
}

/// Reads the words of a script; quotes are taken away.
struct Lexer<'a> {
    rest: &'a str,
    /// The ends of the texts that begin on the next line.
    documents: Vec<String>,
    word: Option<Word>,
    words: Vec<Word>,
    commands: Vec<Vec<Word>>,
}

impl<'a> Lexer<'a> {
    fn new(rest: &'a str) -> Self {
        Self {
            rest,
            documents: Vec::new(),
            word: None,
            words: Vec::new(),
            commands: Vec::new(),
        }
    }

    fn commands(mut self) -> Vec<Vec<Word>> {
        while let Some(c) = self.next() {
            match c {
                '#' if self.word.is_none() => self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]),
                ' ' | '\t' => self.end_word(),
                '\n' => {
                    self.end_command();
                    self.skip_documents();
                }
                '{' if self.word.is_none() => {
                    self.end_command();
                    self.text("{");
                }
                '<' if self.rest.starts_with('<') => self.begin_document(),
                ';' | '&' | '|' | '(' | ')' => self.end_command(),
                '<' | '>' => self.end_word(),
                '\\' => match self.next() {
                    Some('\n') | None => {}
                    Some(c) => self.text(c.encode_utf8(&mut [0; 4])),
                },
                '\'' => {
                    let (inner, rest) = self.rest.split_once('\'').unwrap_or((self.rest, ""));
                    self.rest = rest;
                    self.text(inner);
                }
                '"' => self.quoted(),
                '$' => self.dollar(false),
                '`' => {
                    self.rest = self.rest.split_once('`').map_or("", |(_, rest)| rest);
                    self.part(Part::Unknown);
                }
                c => self.text(c.encode_utf8(&mut [0; 4])),
            }
        }
        self.end_command();
        self.commands
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn word(&mut self) -> &mut Word {
        self.word.get_or_insert_default()
    }

    fn part(&mut self, part: Part) {
        self.word().parts.push(part);
    }

    fn text(&mut self, text: &str) {
        match self.word().parts.last_mut() {
            Some(Part::Text(before)) => before.push_str(text),
            _ => self.part(Part::Text(text.into())),
        }
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    fn end_command(&mut self) {
        self.end_word();
        let words = std::mem::take(&mut self.words);
        if !words.is_empty() {
            self.commands.push(words);
        }
    }

    fn quoted(&mut self) {
        self.text("");
        self.word().quoted = true;
        while let Some(c) = self.next() {
            match c {
                '"' => return,
                '\\' => match self.next() {
                    Some('\n') | None => {}
                    Some(c @ ('$' | '`' | '"' | '\\')) => self.text(c.encode_utf8(&mut [0; 4])),
                    Some(c) => {
                        self.text("\\");
                        self.text(c.encode_utf8(&mut [0; 4]));
                    }
                },
                '$' => self.dollar(true),
                '`' => {
                    self.rest = self.rest.split_once('`').map_or("", |(_, rest)| rest);
                    self.part(Part::Unknown);
                }
                c => self.text(c.encode_utf8(&mut [0; 4])),
            }
        }
    }

    /// What follows a `$`: a name, a number, `{…}` or `(…)`.
    fn dollar(&mut self, quoted: bool) {
        if self.rest.starts_with(['(', '{']) {
            let inner = self.balanced();
            let name = inner.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
            let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let part = match name.filter(is_name) {
                Some(name) => Part::Variable(name.into()),
                None => Part::Unknown,
            };
            return self.variable(part, quoted);
        }
        let digit = self.rest.starts_with(|c: char| c.is_ascii_digit());
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(if digit { 1 } else { end });
        self.rest = rest;
        match name {
            "" if self.rest.starts_with(['@', '*', '#', '?', '$', '!', '-']) => {
                self.next();
                self.part(Part::Unknown);
            }
            "" => self.text("$"),
            name => self.variable(Part::Variable(name.into()), quoted),
        }
    }

    fn variable(&mut self, part: Part, quoted: bool) {
        self.part(part);
        if quoted {
            self.word().quoted = true;
        }
    }

    /// Takes the brackets at the start and everything between them.
    fn balanced(&mut self) -> &'a str {
        let (mut depth, whole) = (0_usize, self.rest);
        for (at, c) in whole.char_indices() {
            match c {
                '(' | '{' => depth += 1,
                ')' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                let (inner, rest) = whole.split_at(at + 1);
                self.rest = rest;
                return inner;
            }
        }
        self.rest = "";
        whole
    }

    fn begin_document(&mut self) {
        self.end_word();
        let rest = self.rest.trim_start_matches(['<', '-', ' ', '\t', '\'', '"', '\\']);
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        self.rest = rest.trim_start_matches(['\'', '"']);
        if !name.is_empty() {
            self.documents.push(name.into());
        }
    }

    fn skip_documents(&mut self) {
        for end in std::mem::take(&mut self.documents) {
            while let Some((line, rest)) = self.rest.split_once('\n') {
                self.rest = rest;
                if line.trim_start_matches('\t') == end {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let words = |words: Words| {
            words
                .into_iter()
                .map(|word| word.unwrap_or("?".into()))
                .collect::<Vec<_>>()
        };
        commands(text, "hello")
            .into_iter()
            .map(|command| words(command).join(" "))
            .collect()
    }

    #[test]
    fn commands_have_the_values_that_the_script_gives_to_variables() {
        let text = r#"
set -e
# adduser evil
USER="hello"; HOME_DIR=/var/lib/$USER
if [ "$1" = configure ]; then
    adduser --system --home "$HOME_DIR" \
        --gecos "the user" $USER || true
fi
for i in vi 'ex'; do update-alternatives --install /usr/bin/$i $i /usr/bin/vim 15; done
migrate() {
    ln -s "$2" "$DPKG_ROOT$1"
}
migrate /var/run /run
migrate /var/lock /run/lock
cat <<EOF
useradd evil
EOF
chown $(id -u) "${DPKG_MAINTSCRIPT_PACKAGE}"
"#;
        let expected = [
            "set -e",
            "[ ? = configure ]",
            "adduser --system --home /var/lib/hello --gecos the user hello",
            "true",
            "fi",
            "update-alternatives --install /usr/bin/vi vi /usr/bin/vim 15",
            "update-alternatives --install /usr/bin/ex ex /usr/bin/vim 15",
            "done",
            "migrate",
            "ln -s /run /var/run",
            "ln -s /run/lock /var/lock",
            "migrate /var/run /run",
            "migrate /var/lock /run/lock",
            "cat",
            "chown ? hello",
        ];
        assert_eq!(lines(text), expected);
    }

    #[test]
    fn no_text_makes_it_panic_or_endless() {
        for text in [
            "\"",
            "'",
            "`",
            "$(",
            "${a",
            "a=$b; b=$a; x $a",
            "f() { f; }; f",
            "<<",
            "\\",
            "a=x b=\"",
            "$",
            "é$é",
        ] {
            let _ = commands(text, "x");
        }
        let many: String = (0..9).map(|n| format!("for v{n} in 1 2 3 4 5 6 7 8; do\n")).collect();
        let text = many + "x $v0$v1$v2$v3$v4$v5$v6$v7$v8\n";
        assert!(
            commands(&text, "x")
                .iter()
                .filter(|words| words[0].as_deref() == Some("x"))
                .count()
                <= VALUES
        );
    }
}
