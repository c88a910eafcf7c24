//! Where the socket is: for the process that makes it, and for the command that looks for it.

use std::path::{Path, PathBuf};

/// The socket's name in its folder.
pub(crate) const SOCKET: &str = "groundtrack.sock";

/// Where systemd makes runtime folders for services.
const RUN: &str = "/run";

/// What the place depends on, besides `status.socket`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `RUNTIME_DIRECTORY`: what systemd has made for the service.
    pub runtime_directory: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`: a logged-in user's own.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// The configuration file's stem: each instance has a folder of its own.
    pub name: String,
}

/// Where a process makes its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Of the socket.
    pub path: PathBuf,
    /// Somebody relies on it: the configuration names it, or systemd has made its folder. Else
    /// the process does without where it cannot be made.
    pub is_relied_on: bool,
}

impl Surroundings {
    /// Of this process, with this configuration file.
    pub fn of_process(config: Option<&Path>) -> Self {
        // systemd separates several by colons; the first is the one that the unit is named for.
        let first = |value: String| value.split(':').next().map(PathBuf::from);
        let absolute = |path: &PathBuf| path.is_absolute();
        let variable = |name| std::env::var(name).ok();
        let stem = config.and_then(Path::file_stem);
        Self {
            runtime_directory: variable("RUNTIME_DIRECTORY")
                .and_then(first)
                .filter(absolute),
            xdg_runtime_dir: variable("XDG_RUNTIME_DIR")
                .map(PathBuf::from)
                .filter(absolute),
            name: stem.map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
        }
    }

    /// Where the process makes its socket; `asked` is `status.socket`.
    pub fn of_service(&self, asked: Option<&Path>) -> Place {
        let relied_on = |path| Place {
            path,
            is_relied_on: true,
        };
        let own = |path| Place {
            path,
            is_relied_on: false,
        };
        match (asked, &self.runtime_directory, &self.xdg_runtime_dir) {
            (Some(asked), _, _) => relied_on(asked.to_owned()),
            (None, Some(folder), _) => relied_on(folder.join(SOCKET)),
            (None, None, Some(folder)) => own(self.below(folder)),
            (None, None, None) => own(self.below(Path::new(RUN))),
        }
    }

    /// Where a command looks for it, in this order; `asked` is `status.socket`.
    pub fn candidates(&self, asked: Option<&Path>) -> Vec<PathBuf> {
        let given = self
            .runtime_directory
            .iter()
            .map(|folder| folder.join(SOCKET));
        let own = self.xdg_runtime_dir.iter().map(|folder| self.below(folder));
        match asked {
            // In a unit's own environment its folder is this service's, whatever the file says by
            // now: so a reload that moves the socket away from there can be asked for.
            Some(asked) => std::iter::once(asked.to_owned()).chain(given).collect(),
            None => given
                .chain(own)
                .chain([self.below(Path::new(RUN))])
                .collect(),
        }
    }

    /// The systemd unit that runs this configuration, as the package names them.
    pub fn unit(&self) -> String {
        match self.instance() {
            None => "groundtrack.service".to_owned(),
            Some(name) => format!("groundtrack@{name}.service"),
        }
    }

    fn below(&self, folder: &Path) -> PathBuf {
        let own = match self.instance() {
            None => "groundtrack".to_owned(),
            Some(name) => format!("groundtrack-{name}"),
        };
        folder.join(own).join(SOCKET)
    }

    fn instance(&self) -> Option<&str> {
        match self.name.as_str() {
            "" | "groundtrack" => None,
            name => Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(runtime: &str, xdg: &str, name: &str) -> Surroundings {
        let some = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        Surroundings {
            runtime_directory: some(runtime),
            xdg_runtime_dir: some(xdg),
            name: name.to_owned(),
        }
    }

    fn made(runtime: &str, xdg: &str, name: &str, asked: Option<&str>) -> (String, bool) {
        let place = surroundings(runtime, xdg, name).of_service(asked.map(Path::new));
        (place.path.display().to_string(), place.is_relied_on)
    }

    #[test]
    fn a_process_makes_its_socket_where_the_first_of_these_says() {
        let of = |path: &str, relied: bool| (path.to_owned(), relied);
        let unit = "/run/groundtrack";
        assert_eq!(
            made(unit, "/run/user/7", "groundtrack", Some("/a.sock")),
            of("/a.sock", true)
        );
        assert_eq!(
            made(unit, "/run/user/7", "groundtrack", None),
            of("/run/groundtrack/groundtrack.sock", true)
        );
        assert_eq!(
            made("", "/run/user/7", "groundtrack", None),
            of("/run/user/7/groundtrack/groundtrack.sock", false)
        );
        assert_eq!(
            made("", "", "", None),
            of("/run/groundtrack/groundtrack.sock", false)
        );
        assert_eq!(
            made("", "", "iss", None),
            of("/run/groundtrack-iss/groundtrack.sock", false)
        );
    }

    #[test]
    fn a_command_finds_the_service_from_a_users_shell() {
        let found = surroundings("", "/run/user/7", "iss").candidates(None);
        assert_eq!(
            found,
            [
                PathBuf::from("/run/user/7/groundtrack-iss/groundtrack.sock"),
                PathBuf::from("/run/groundtrack-iss/groundtrack.sock")
            ]
        );
    }

    #[test]
    fn a_named_socket_is_the_only_one_but_for_the_units_own() {
        let asked = Some(Path::new("/a.sock"));
        let found = surroundings("", "/run/user/7", "").candidates(asked);
        assert_eq!(found, [PathBuf::from("/a.sock")]);
        let found = surroundings("/run/groundtrack", "", "").candidates(asked);
        assert_eq!(found[1], PathBuf::from("/run/groundtrack/groundtrack.sock"));
    }

    #[test]
    fn the_unit_is_named_for_the_file() {
        assert_eq!(
            surroundings("", "", "groundtrack").unit(),
            "groundtrack.service"
        );
        assert_eq!(
            surroundings("", "", "iss").unit(),
            "groundtrack@iss.service"
        );
    }
}
