//! Names: `hf:org/repo[/path/file.gguf][@revision]`.

use std::fmt;
use std::str::FromStr;

use crate::HubError;

/// What every name begins with.
const PREFIX: &str = "hf:";
/// The branch that is meant where none is named.
const MAIN: &str = "main";
/// Longest name of an owner or a repository on the hub.
const LONGEST_PART: usize = 96;

/// A repository of the hub, or a file in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HubRef {
    /// Owner and name, `org/repo`.
    pub repo: String,
    /// A file inside, by its path with `/`.
    pub file: Option<String>,
    /// Branch, tag or commit; `main` where none is named.
    pub revision: String,
}

impl HubRef {
    /// Whether an argument is meant as a name of the hub.
    pub fn is_hub_name(argument: &str) -> bool {
        without_prefix(argument.trim_start()).is_some()
    }

    /// The name of what the address of a page of the hub shows:
    /// `https://huggingface.co/org/repo/blob/main/file.gguf`.
    pub fn of_url(address: &str) -> Option<Self> {
        let address = address.trim();
        let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
        let bare = bare.strip_prefix("www.").unwrap_or(bare);
        let bare = bare.split(['?', '#']).next()?.trim_end_matches('/');
        let (host, path) = bare.split_once('/')?;
        if !["huggingface.co", "hf.co"].contains(&host.to_ascii_lowercase().as_str()) {
            return None;
        }
        let mut parts = path.splitn(5, '/');
        let repo = format!("{}/{}", parts.next()?, parts.next()?);
        // `blob`, `resolve` or `tree`, the revision, and the file.
        let _view = parts.next();
        let revision = parts.next().unwrap_or(MAIN).to_owned();
        let file = parts.next().filter(|file| file.contains('.')).map(str::to_owned);
        Self::parse(&Self { repo, file, revision }.to_string()).ok()
    }

    /// Reads `hf:org/repo[/path/file.gguf][@revision]`.
    ///
    /// # Errors
    /// Anything else, and parts that would lead out of a repository.
    pub fn parse(name: &str) -> Result<Self, HubError> {
        let wrong = |problem| HubError::Name { name: name.to_owned(), problem };
        let rest = without_prefix(name.trim()).ok_or_else(|| wrong("it begins with no `hf:`"))?;
        let (path, revision) = match rest.rsplit_once('@') {
            None => (rest, MAIN),
            Some((path, revision)) if is_revision(revision) => (path, revision),
            Some(_) => return Err(wrong("the part after `@` is not a revision")),
        };
        if path.contains("://") {
            return Err(wrong("a URL is no name"));
        }
        let mut parts = path.splitn(3, '/');
        let (Some(owner), Some(repo)) = (parts.next(), parts.next()) else {
            return Err(wrong("it names no repository of an owner"));
        };
        if !is_part(owner) || !is_part(repo) {
            return Err(wrong("owners and repositories have letters, digits, `-`, `_` and `.`"));
        }
        let file = parts.next().map(str::to_owned);
        if file.as_deref().is_some_and(|file| !is_file(file)) {
            return Err(wrong("the part after the repository is not the path of a file"));
        }
        Ok(Self { repo: format!("{owner}/{repo}"), file, revision: revision.to_owned() })
    }

    /// The same repository and revision, and this file.
    pub fn with_file(&self, file: impl Into<String>) -> Self {
        Self { file: Some(file.into()), ..self.clone() }
    }

    /// The last part of the repository's name: a name for a model whose file tells none.
    pub fn model_name(&self) -> &str {
        self.repo.rsplit('/').next().unwrap_or(&self.repo)
    }

    /// The file, or an error that asks for one.
    pub(crate) fn named_file(&self) -> Result<&str, HubError> {
        self.file.as_deref().ok_or_else(|| HubError::NoFileNamed { what: self.to_string() })
    }
}

impl FromStr for HubRef {
    type Err = HubError;

    fn from_str(name: &str) -> Result<Self, HubError> {
        Self::parse(name)
    }
}

impl fmt::Display for HubRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.repo)?;
        if let Some(file) = &self.file {
            write!(f, "/{file}")?;
        }
        if self.revision != MAIN {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// What comes after `hf:`, in any case.
fn without_prefix(name: &str) -> Option<&str> {
    let (prefix, rest) = name.split_at_checked(PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then_some(rest)
}

fn is_part(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= LONGEST_PART
        && !part.starts_with(['.', '-'])
        && !part.contains("--")
        && !part.contains("..")
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_revision(revision: &str) -> bool {
    !revision.contains("..")
        && revision.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
        && revision.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./+".contains(&byte))
}

/// Whether a path stays inside the folder that it is joined to. Also asked of what servers say.
pub(crate) fn is_file(path: &str) -> bool {
    !path.contains(['\\', ':'])
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_back() {
        for (name, repo, file, revision) in [
            ("hf:a/b", "a/b", None, "main"),
            ("hf:a/b@v1.0", "a/b", None, "v1.0"),
            ("hf:A-b/c_d.e/f.gguf", "A-b/c_d.e", Some("f.gguf"), "main"),
            ("hf:a/b/q/f g.gguf@refs/pr/1", "a/b", Some("q/f g.gguf"), "refs/pr/1"),
        ] {
            let read = HubRef::parse(name).unwrap();
            assert_eq!((read.repo.as_str(), read.file.as_deref()), (repo, file));
            assert_eq!((read.revision.as_str(), read.to_string().as_str()), (revision, name));
        }
        assert_eq!(HubRef::parse(" hf:a/b@main ").unwrap().to_string(), "hf:a/b");
    }

    #[test]
    fn addresses_of_pages_become_names() {
        for (address, name) in [
            ("https://huggingface.co/a/b", "hf:a/b"),
            ("huggingface.co/a/b/", "hf:a/b"),
            ("https://hf.co/a/b/tree/main", "hf:a/b"),
            ("https://huggingface.co/a/b/blob/main/q/f.gguf", "hf:a/b/q/f.gguf"),
            ("https://www.huggingface.co/a/b/resolve/v1/f.gguf?download=true", "hf:a/b/f.gguf@v1"),
        ] {
            assert_eq!(HubRef::of_url(address).unwrap().to_string(), name, "{address}");
        }
        for other in ["hf:a/b", "a/b", "https://example.org/a/b", "https://huggingface.co/a", ""] {
            assert_eq!(HubRef::of_url(other), None, "{other}");
        }
        assert!(HubRef::is_hub_name("HF:a/b") && !HubRef::is_hub_name("hé"));
        assert_eq!(HubRef::parse("HF:a/b").unwrap().to_string(), "hf:a/b");
    }

    #[test]
    fn what_is_no_name_is_refused_in_one_line() {
        for name in [
            "",
            "hf:",
            "a/b",
            "hf:a",
            "hf:a/",
            "hf:/b",
            "hf:a/b/",
            "hf:a/b@",
            "hf:a/b@../x",
            "hf:a/../b",
            "hf:a/b/../../x",
            "hf:a/b//x",
            "hf:a/b/.",
            "hf:a b/c",
            "hf:a--b/c",
            "hf:.a/b",
            "hf:a/b@x y",
            "hf:https://huggingface.co/a/b",
            "hf:a/b/c\\d",
            "hf:a/b/c\nd",
            "hf:a/b@/x",
        ] {
            let error = HubRef::parse(name).unwrap_err();
            assert!(matches!(error, HubError::Name { .. }), "{name}");
            assert_eq!(error.to_string().lines().count(), 1, "{name}");
        }
    }
}
