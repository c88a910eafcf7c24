//! The servers that give a container, and a machine at AWS, the credentials of its role.

use std::net::IpAddr;

use reqwest::Url;

use super::remote::{Unhelpful, ask, document, metadata_client};
use super::{Credentials, Lasting, Secret};
use crate::store::answer::with_causes;

/// The server of a container's task, to which a relative address belongs.
const CONTAINER_HOST: &str = "http://169.254.170.2";

/// Where plain HTTP does not leave the machine: the agents of ECS and EKS.
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// The instance's server, by IPv4 and IPv6.
pub(super) const INSTANCE_V4: &str = "http://169.254.169.254";
pub(super) const INSTANCE_V6: &str = "http://[fd00:ec2::254]";

/// A session is used at once, for two requests.
const SESSION_S: &str = "60";

/// The address of the container's server; `full` is used as it is.
///
/// # Errors
/// What is wrong with it.
pub(super) fn container_address(relative: Option<&str>, full: Option<&str>) -> Result<Url, String> {
    if let Some(path) = relative {
        let url = Url::parse(&format!(
            "{CONTAINER_HOST}/{}",
            path.trim_start_matches('/')
        ));
        return url.map_err(|error| with_causes(&error));
    }
    let url = Url::parse(full.unwrap_or_default()).map_err(|error| with_causes(&error))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_near = host == "localhost"
        || CONTAINER_HOSTS.contains(&host)
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_near => Ok(url),
        "http" => Err(format!(
            "http is spoken only to this machine and the agents of ECS and EKS, and {host} is \
             none: use https"
        )),
        _ => Err("it is neither http nor https".to_owned()),
    }
}

/// Asks the container's server.
///
/// # Errors
/// What it answered, or that it did not.
pub(super) async fn of_container(
    address: Url,
    authorization: Option<&Secret>,
) -> Result<(Credentials, Lasting), String> {
    let mut request = metadata_client()?.get(address);
    if let Some(token) = authorization {
        request = request.header("authorization", token.expose());
    }
    let secrets: Vec<&Secret> = authorization.into_iter().collect();
    let body = ask(request).await.map_err(|error| error.words(&secrets))?;
    document(&body)
}

/// Asks the instance's server, by its second version alone: the first hands the role to whoever
/// makes a process of this machine fetch an address. Also tells the role's name.
///
/// # Errors
/// What it answered, or that it did not.
pub(super) async fn of_instance(host: &str) -> Result<(String, Credentials, Lasting), String> {
    const ROLES: &str = "meta-data/iam/security-credentials/";
    let client = metadata_client()?;
    let host = host.trim_end_matches('/');
    let put = client
        .put(format!("{host}/latest/api/token"))
        .header("x-aws-ec2-metadata-token-ttl-seconds", SESSION_S)
        .header("content-length", "0");
    let session = ask(put).await.map_err(|error| error.words(&[]))?;
    let session = Secret::new(String::from_utf8_lossy(&session).trim());
    let get = async |path: &str| {
        let request = client.get(format!("{host}/latest/{path}"));
        ask(request.header("x-aws-ec2-metadata-token", session.expose())).await
    };
    let roles = get(ROLES).await.map_err(|error| match &error {
        Unhelpful::Answered(answer) if answer.status == 404 => "it has no role".to_owned(),
        error => error.words(&[&session]),
    })?;
    let roles = String::from_utf8_lossy(&roles).into_owned();
    let is_name = |name: &&str| {
        let valid = |c: char| c.is_ascii_alphanumeric() || "+=,.@-_".contains(c);
        !name.is_empty() && name.chars().all(valid)
    };
    let role = roles.lines().map(str::trim).next().filter(is_name);
    let role = role.ok_or_else(|| "it names no role".to_owned())?;
    let body = get(&format!("{ROLES}{role}"))
        .await
        .map_err(|error| error.words(&[&session]))?;
    let (credentials, lasting) = document(&body)?;
    Ok((role.to_owned(), credentials, lasting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_token_is_sent_only_to_where_it_belongs() {
        let relative = container_address(Some("/v2/credentials/x"), None).unwrap();
        assert_eq!(relative.as_str(), "http://169.254.170.2/v2/credentials/x");
        for address in [
            "http://localhost:1/x",
            "http://127.0.0.1/x",
            "http://[::1]:81/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "https://elsewhere.example/x",
        ] {
            assert_eq!(
                container_address(None, Some(address)).unwrap().as_str(),
                address
            );
        }
        for address in [
            "http://elsewhere.example/x",
            "ftp://127.0.0.1/x",
            "x",
            "http://10.0.0.1",
        ] {
            assert!(container_address(None, Some(address)).is_err(), "{address}");
        }
    }
}
