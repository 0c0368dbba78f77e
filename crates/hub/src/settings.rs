//! What the environment says about the hub, read as the tools of Hugging Face read it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::HubError;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Where the hub is, who asks, and where files are kept.
#[derive(Clone)]
pub struct Settings {
    /// The hub, without a `/` at the end.
    pub endpoint: String,
    /// Sent to the endpoint, and to no other host.
    pub token: Option<String>,
    /// The folder of the cache, `…/huggingface/hub`.
    pub cache: PathBuf,
    /// A file of certificates (PEM) to trust in place of the usual ones, for networks whose proxy
    /// signs for everyone.
    pub certificates: Option<PathBuf>,
    /// Use what is on the disk and ask no server.
    pub offline: bool,
    /// Wait before the first repetition of a failed request; it doubles.
    pub first_wait: Duration,
    /// Longest silence of a server before the connection counts as broken.
    pub patience: Duration,
    /// Silence from which on the user is told whom the program waits for.
    pub quiet_wait: Duration,
    /// Who is told that the program waits, and why.
    pub listener: Listener,
}

type Tell = dyn Fn(&str) + Send + Sync;

/// Whom a wait is told to; nobody by default.
#[derive(Clone, Default)]
pub struct Listener(Option<Arc<Tell>>);

impl Listener {
    /// This function is given each sentence.
    pub fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(crate) fn tell(&self, sentence: &str) {
        if let Some(tell) = &self.0 {
            tell(sentence);
        }
    }
}

impl Settings {
    /// The settings of this process's environment.
    ///
    /// # Errors
    /// An endpoint that is no URL, a token with impossible characters, no home directory.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(&|name| std::env::var(name).ok(), std::env::home_dir().as_deref())
    }

    fn from_variables(
        variable: &dyn Fn(&str) -> Option<String>,
        home: Option<&Path>,
    ) -> Result<Self, HubError> {
        let variable = |name: &str| {
            variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let path = |name: &str| variable(name).map(|value| expand(&value, home));
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let hf_home = path("HF_HOME")
            .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface")))
            .or_else(|| Some(home?.join(".cache").join("huggingface")));
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(hf_home.as_ref()?.join("hub")))
            .ok_or(HubError::NoHome)?;
        let token_file = path("HF_TOKEN_PATH").or_else(|| Some(hf_home?.join("token")));
        let is_set = |name: &str| variable(name).is_some_and(|value| is_true(&value));
        let token = if is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            None
        } else {
            variable("HF_TOKEN")
                .or_else(|| variable("HUGGING_FACE_HUB_TOKEN"))
                .or_else(|| std::fs::read_to_string(token_file?).ok())
                .map(|token| token.trim().to_owned())
                .filter(|token| !token.is_empty())
        };
        if token.as_deref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let problem = "the token has characters that no token has".to_owned();
            return Err(HubError::Setting { variable: "HF_TOKEN", problem });
        }
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token,
            cache,
            certificates: ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]
                .into_iter()
                .find_map(path)
                .filter(|path| path.is_file()),
            offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
            first_wait: Duration::from_millis(500),
            patience: Duration::from_secs(30),
            quiet_wait: Duration::from_secs(3),
            listener: Listener::default(),
        })
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

fn is_true(value: &str) -> bool {
    ["1", "true", "yes", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

fn expand(value: &str, home: Option<&Path>) -> PathBuf {
    match (value.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, HubError> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::from_variables(&lookup, Some(Path::new("/home/me")))
    }

    #[test]
    fn the_cache_is_where_the_tools_of_hugging_face_look() {
        for (variables, wanted) in [
            (&[][..], "/home/me/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")], "/h/hub"),
            (&[("HF_HOME", "~/h")], "/home/me/h/hub"),
            (&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/h")], "/old"),
            (&[("HF_HUB_CACHE", "/c"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/c"),
        ] {
            assert_eq!(settings(variables).unwrap().cache, Path::new(wanted));
        }
    }

    #[test]
    fn the_token_comes_from_the_variable_or_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        let token = |variables: &[_]| settings(variables).unwrap().token;
        assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", "hf_a")]).as_deref(), Some("hf_a"));
        let disabled = [("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
        assert_eq!(token(&disabled), None);
        assert!(settings(&[("HF_TOKEN", "hf a")]).is_err());
    }

    #[test]
    fn debug_output_hides_the_token() {
        let settings = settings(&[("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn offline_is_a_yes() {
        for (value, wanted) in [("1", true), ("TRUE", true), ("0", false), ("", false)] {
            assert_eq!(settings(&[("HF_HUB_OFFLINE", value)]).unwrap().offline, wanted);
        }
    }
}
