//! Where a Spark job keeps its things: folders named as Hadoop names them.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::StoreLocation;

/// A folder in a bucket or on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(StoreLocation);

impl Place {
    /// From `s3a://bucket/folder`, `s3://`, `s3n://`, `file:///folder`, `file:/folder` or a path.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        const RIGHT: &str = "must be s3a://bucket/folder, s3://bucket/folder, file:///folder or \
            the path of a folder";
        let Some((scheme, rest)) = split_scheme(text) else {
            let path = std::path::absolute(text).map_err(|error| format!("{RIGHT} ({error})"))?;
            return Ok(Self(StoreLocation::File(without_end(&path))));
        };
        match scheme {
            "s3a" | "s3" | "s3n" => {
                let rest = rest.strip_prefix("//").ok_or(RIGHT)?;
                let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
                let folder = folder.trim_matches('/');
                let is_path = folder.is_empty()
                    || folder
                        .split('/')
                        .all(|part| !matches!(part, "" | "." | ".."));
                if bucket.is_empty() || !is_path {
                    return Err(RIGHT.to_owned());
                }
                Ok(Self(StoreLocation::S3 {
                    bucket: bucket.to_owned(),
                    prefix: folder.to_owned(),
                }))
            }
            "file" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                let path = path.strip_prefix("localhost").unwrap_or(path);
                match path.starts_with('/') {
                    true => Ok(Self(StoreLocation::File(without_end(Path::new(path))))),
                    false => Err(format!(
                        "{RIGHT}; a path after file:// begins with a third slash"
                    )),
                }
            }
            other => Err(format!(
                "{RIGHT}; {other}:// cannot be read: copy the folder to one of these"
            )),
        }
    }

    /// What a store is opened with.
    pub fn location(&self) -> &StoreLocation {
        &self.0
    }

    /// The folder that it lies in; `None`: it is a bucket, or the root.
    pub fn parent(&self) -> Option<Self> {
        match &self.0 {
            StoreLocation::S3 { prefix, .. } if prefix.is_empty() => None,
            StoreLocation::S3 { bucket, prefix } => Some(Self(StoreLocation::S3 {
                bucket: bucket.clone(),
                prefix: prefix
                    .rsplit_once('/')
                    .map_or("", |(parent, _)| parent)
                    .to_owned(),
            })),
            StoreLocation::File(path) => path
                .parent()
                .map(|parent| Self(StoreLocation::File(parent.to_owned()))),
            StoreLocation::Memory => None,
        }
    }

    /// A folder in it.
    pub fn child(&self, name: &str) -> Self {
        Self(match &self.0 {
            StoreLocation::S3 { bucket, prefix } => StoreLocation::S3 {
                bucket: bucket.clone(),
                prefix: match prefix.as_str() {
                    "" => name.to_owned(),
                    prefix => format!("{prefix}/{name}"),
                },
            },
            StoreLocation::File(path) => StoreLocation::File(path.join(name)),
            StoreLocation::Memory => StoreLocation::Memory,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            StoreLocation::S3 { bucket, prefix } if prefix.is_empty() => {
                write!(formatter, "s3a://{bucket}")
            }
            StoreLocation::S3 { bucket, prefix } => write!(formatter, "s3a://{bucket}/{prefix}"),
            other => other.fmt(formatter),
        }
    }
}

/// A scheme and what follows its colon; a path has none.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_scheme && rest.starts_with('/')).then_some((scheme, rest))
}

/// Without slashes at its end, nor dots.
fn without_end(path: &Path) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Place::parse(text).unwrap().to_string()
    }

    #[test]
    fn places_are_written_as_hadoop_writes_them() {
        for text in ["s3a://b/x/y", "s3://b/x/y/", "s3n://b/x/y"] {
            assert_eq!(shown(text), "s3a://b/x/y");
        }
        assert_eq!(shown("s3a://b"), "s3a://b");
        for text in ["file:///x/y", "file:/x/y/", "file://localhost/x/y", "/x/y"] {
            assert_eq!(shown(text), "file:///x/y");
        }
        assert!(shown("x:y").starts_with("file:///"));
    }

    #[test]
    fn a_place_that_cannot_be_read_says_what_can() {
        for text in ["s3a:///x", "s3a:/b/x", "s3a://b/../x", "file://x/y"] {
            let why = Place::parse(text).unwrap_err();
            assert!(why.contains("s3a://bucket/folder"), "{text}: {why}");
        }
        let why = Place::parse("hdfs://n/x").unwrap_err();
        assert!(why.contains("hdfs://") && why.contains("copy"), "{why}");
    }

    #[test]
    fn a_folder_has_neighbours() {
        let place = Place::parse("s3a://b/x/checkpoints").unwrap();
        let parent = place.parent().unwrap();
        assert_eq!(parent.child("sink").to_string(), "s3a://b/x/sink");
        let bucket = parent.parent().unwrap();
        assert_eq!(bucket.child("sink").to_string(), "s3a://b/sink");
        assert_eq!(bucket.parent(), None);
        let place = Place::parse("/x/checkpoints").unwrap();
        assert_eq!(
            place.parent().unwrap().child("y").to_string(),
            "file:///x/y"
        );
    }
}
