//! What an operator relies on: who signs, that it goes on when credentials change, and what is
//! said when it does not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use slog::{Discard, o};

use super::servers::{Bucket, Request, Server, assumed, document, instance};
use super::*;
use crate::config::S3Credentials;
use crate::store::endpoint::tests::s3;
use crate::store::object_store_s3::ObjectStoreS3;
use crate::store::s3::S3Store;
use crate::store::{Condition, SharedStore};

/// The tests' clock stands still unless it is set.
const NOW: i64 = 1_800_000_000_000;
const HOUR: i64 = 3_600_000;

/// Variables, files and a clock.
struct World {
    variables: HashMap<String, String>,
    settings: S3Credentials,
    clock: Arc<AtomicI64>,
    folder: tempfile::TempDir,
    status: Arc<Status>,
}

impl World {
    /// Nothing is anywhere; of the instance nobody is asked.
    fn new() -> Self {
        let mut world = Self {
            variables: HashMap::new(),
            settings: S3Credentials::Found { profile: None },
            clock: Arc::new(AtomicI64::new(NOW)),
            folder: tempfile::tempdir().unwrap(),
            status: Status::new(),
        };
        let home = world.folder.path().to_str().unwrap().to_owned();
        world.set("HOME", &home);
        world.set("AWS_EC2_METADATA_DISABLED", "true");
        world
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    fn unset(&mut self, name: &str) {
        self.variables.remove(name);
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn instance_at(&mut self, server: &Server) {
        self.unset("AWS_EC2_METADATA_DISABLED");
        self.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &server.address);
    }

    fn chain(&self) -> Arc<Chain> {
        let mut config = s3(None, true);
        config.credentials = self.settings.clone();
        let variables = self.variables.clone();
        let lookup = Lookup::with(&config, Arc::new(move |name| variables.get(name).cloned()));
        let clock = self.clock.clone();
        let observer = Observer {
            status: self.status.clone(),
            log: Logger::root(Discard, o!()),
        };
        let clock = Arc::new(move || clock.load(Ordering::SeqCst));
        Arc::new(Chain::with(lookup, clock, Some(observer)))
    }

    fn pass(&self, ms: i64) {
        self.clock.fetch_add(ms, Ordering::SeqCst);
    }

    async fn found(&self) -> (String, String) {
        let found = self.chain().current().await.unwrap();
        (found.credentials.key_id.expose().to_owned(), found.place)
    }

    async fn refused(&self) -> String {
        self.chain().current().await.unwrap_err().to_string()
    }
}

async fn key(chain: &Chain) -> String {
    let found = chain.current().await.unwrap();
    found.credentials.key_id.expose().to_owned()
}

/// An instance whose credentials the test sets.
async fn instance_with(key: &Arc<Mutex<String>>, expires_ms: i64) -> Server {
    let key = key.clone();
    Server::start(move |request| instance(request, || document(&key.lock().unwrap(), expires_ms)))
        .await
}

fn shared(text: &str) -> Arc<Mutex<String>> {
    Arc::new(Mutex::new(text.to_owned()))
}

#[tokio::test]
async fn the_first_place_of_the_chain_that_is_there_counts() {
    let metadata = instance_with(&shared("of-instance"), NOW + HOUR).await;
    let container = Server::start(|_| Some((200, document("of-container", NOW + HOUR)))).await;
    let sts = Server::start(|_| Some((200, assumed("of-token", NOW + HOUR)))).await;
    let mut world = World::new();
    world.instance_at(&metadata);
    world.set(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        &format!("{}/x", container.address),
    );
    world.set("AWS_ENDPOINT_URL_STS", &sts.address);
    let token = world.write("token", "jwt\n");
    world.set("AWS_WEB_IDENTITY_TOKEN_FILE", &token);
    world.set("AWS_ROLE_ARN", "arn:role");
    world.write(
        ".aws/credentials",
        "[default]\naws_access_key_id=of-profile\naws_secret_access_key=s\n",
    );
    world.set("AWS_ACCESS_KEY_ID", "of-environment");
    world.set("AWS_SECRET_ACCESS_KEY", "s");
    world.settings = S3Credentials::Keys {
        key_id: Secret::new("of-configuration"),
        secret: Secret::new("s"),
        token: None,
    };
    let (key, place) = world.found().await;
    assert_eq!(key, "of-configuration");
    assert!(place.contains("store.s3.access_key_id"), "{place}");

    let path = world.write(
        "own",
        "[default]\naws_access_key_id=of-file\naws_secret_access_key=s\n",
    );
    world.settings = S3Credentials::File {
        path: path.clone().into(),
        profile: None,
    };
    let (key, place) = world.found().await;
    assert_eq!(key, "of-file");
    assert!(place.contains(&path), "{place}");

    // A profile that the configuration names is meant, whatever else is there.
    world.settings = S3Credentials::Found {
        profile: Some("default".to_owned()),
    };
    assert_eq!(world.found().await.0, "of-profile");

    world.settings = S3Credentials::Found { profile: None };
    let (key, place) = world.found().await;
    assert_eq!(key, "of-environment");
    assert!(place.contains("AWS_ACCESS_KEY_ID"), "{place}");

    world.unset("AWS_ACCESS_KEY_ID");
    world.unset("AWS_SECRET_ACCESS_KEY");
    let (key, place) = world.found().await;
    assert_eq!(key, "of-profile");
    assert!(
        place.contains("[default]") && place.contains(".aws/credentials"),
        "{place}"
    );

    world.write(".aws/credentials", "[default]\nregion=x\n");
    let (key, place) = world.found().await;
    assert_eq!(key, "of-token");
    assert!(
        place.contains("arn:role") && place.contains(&token),
        "{place}"
    );

    world.unset("AWS_WEB_IDENTITY_TOKEN_FILE");
    let (key, place) = world.found().await;
    assert_eq!(key, "of-container");
    assert!(place.contains("the container's role"), "{place}");

    world.unset("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let (key, place) = world.found().await;
    assert_eq!(key, "of-instance");
    assert!(place.contains("the instance's role role"), "{place}");

    world.set("AWS_EC2_METADATA_DISABLED", "true");
    let before = metadata.requests().len();
    let none = world.refused().await;
    assert_eq!(
        metadata.requests().len(),
        before,
        "it was asked though it is disabled"
    );
    for says in [
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set",
        "[default]",
        "AWS_WEB_IDENTITY_TOKEN_FILE is not set",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI is not set",
        "AWS_EC2_METADATA_DISABLED",
    ] {
        assert!(none.contains(says), "{says}: {none}");
    }
}

#[tokio::test]
async fn a_place_that_is_there_and_wrong_is_not_passed_over() {
    let metadata = instance_with(&shared("of-instance"), NOW + HOUR).await;
    let mut world = World::new();
    world.instance_at(&metadata);
    world.set("AWS_ACCESS_KEY_ID", "id");
    assert!(
        world
            .refused()
            .await
            .contains("AWS_SECRET_ACCESS_KEY is not")
    );
    world.unset("AWS_ACCESS_KEY_ID");
    world.set("AWS_PROFILE", "other");
    let none = world.refused().await;
    assert!(
        none.contains("[other]") && none.contains(".aws/credentials: No such file"),
        "{none}"
    );
    world.unset("AWS_PROFILE");
    world.set("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere");
    assert!(world.refused().await.contains("AWS_ROLE_ARN is not"));
    world.set("AWS_ROLE_ARN", "arn");
    assert!(world.refused().await.contains("/nowhere: No such file"));
    world.unset("AWS_WEB_IDENTITY_TOKEN_FILE");
    world.set(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "http://elsewhere.example/",
    );
    assert!(world.refused().await.contains("use https"));
    assert!(metadata.requests().is_empty());
}

#[tokio::test]
async fn roles_are_assumed_one_from_the_other_with_signed_requests() {
    let sts = Server::start(|request| {
        let role = request.body.contains("RoleArn=arn%3Atop");
        Some((
            200,
            assumed(if role { "top" } else { "middle" }, NOW + HOUR),
        ))
    })
    .await;
    let mut world = World::new();
    world.set("AWS_ENDPOINT_URL_STS", &sts.address);
    world.set("AWS_PROFILE", "top");
    world.write(
        ".aws/config",
        "[profile top]\nrole_arn=arn:top\nsource_profile=middle\nrole_session_name=me\nduration_seconds=900\n\
         [profile middle]\nrole_arn=arn:middle\nsource_profile=base\nexternal_id=a b&c\n",
    );
    world.write(
        ".aws/credentials",
        "[base]\naws_access_key_id=base\naws_secret_access_key=hush\n",
    );
    let chain = world.chain();
    let found = chain.current().await.unwrap();
    assert_eq!(found.credentials.key_id.expose(), "top");
    assert_eq!(found.credentials.token.unwrap().expose(), "token/of+top=");
    assert!(
        found
            .place
            .contains("arn:top, assumed from the role arn:middle"),
        "{}",
        found.place
    );
    let requests = sts.requests();
    let signed_by = |request: &Request, key: &str| {
        let signed = request.header("authorization").unwrap().to_owned();
        assert!(signed.contains(&format!("Credential={key}/")), "{signed}");
        assert!(signed.contains("/us-east-1/sts/aws4_request"), "{signed}");
    };
    assert_eq!(requests.len(), 2);
    signed_by(&requests[0], "base");
    assert_eq!(requests[0].header("x-amz-security-token"), None);
    assert_eq!(
        requests[0].body,
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Amiddle&RoleSessionName=groundtrack&\
         ExternalId=a+b%26c"
    );
    signed_by(&requests[1], "middle");
    assert_eq!(
        requests[1].header("x-amz-security-token"),
        Some("token/of+middle=")
    );
    assert!(
        requests[1]
            .body
            .contains("RoleSessionName=me&DurationSeconds=900")
    );
}

#[tokio::test]
async fn what_sts_refuses_is_said_in_its_words_without_a_secret() {
    let sts = Server::start(|request| {
        let message = format!("not with {}", request.body);
        Some((
            403,
            format!("<E><Error><Code>AccessDenied</Code><Message>{message}</Message></Error></E>"),
        ))
    })
    .await;
    let mut world = World::new();
    world.set("AWS_ENDPOINT_URL_STS", &sts.address);
    let token = world.write("token", "hush");
    world.set("AWS_WEB_IDENTITY_TOKEN_FILE", &token);
    world.set("AWS_ROLE_ARN", "arn:role");
    let refused = world.refused().await;
    assert!(
        refused.contains("403 AccessDenied") && refused.contains("arn:role"),
        "{refused}"
    );
    assert!(
        refused.contains(&sts.address) && !refused.contains("hush"),
        "{refused}"
    );
    let request = &sts.requests()[0];
    assert!(
        request.header("authorization").is_none() && request.body.contains("WebIdentityToken=hush")
    );
}

#[tokio::test]
async fn a_token_file_is_read_again_at_each_look() {
    let container = Server::start(|request| {
        let token = request.header("authorization").unwrap_or("none").to_owned();
        Some((200, document(&format!("by-{token}"), NOW + HOUR)))
    })
    .await;
    let mut world = World::new();
    world.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container.address);
    world.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "variable");
    assert_eq!(world.found().await.0, "by-variable");
    let token = world.write("token", "one\n");
    world.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token);
    let chain = world.chain();
    assert_eq!(key(&chain).await, "by-one");
    world.write("token", "two\n");
    assert_eq!(key(&chain).await, "by-one");
    world.pass(HOUR - 1);
    assert_eq!(key(&chain).await, "by-two");
}

#[tokio::test]
async fn an_instance_that_has_no_role_or_is_silent_is_named_in_time() {
    let none = Server::start(|request| match request.starts_with("PUT") {
        true => Some((200, "session".to_owned())),
        false => Some((404, String::new())),
    })
    .await;
    let mut world = World::new();
    world.instance_at(&none);
    let words = world.refused().await;
    assert!(words.contains("it has no role"), "{words}");
    let silent = Server::start(|_| None).await;
    world.instance_at(&silent);
    let words = world.refused().await;
    assert!(words.contains(&silent.address), "{words}");
    let first = Server::start(|_| Some((403, String::new()))).await;
    world.instance_at(&first);
    assert!(world.refused().await.contains("403"));
    assert_eq!(
        first.count("GET"),
        0,
        "the first version of the metadata was asked"
    );
}

#[tokio::test]
async fn who_waits_for_a_look_shares_its_outcome() {
    let current = shared("a");
    let metadata = instance_with(&current, NOW + HOUR).await;
    let mut world = World::new();
    world.instance_at(&metadata);
    let chain = world.chain();
    let all = futures_util::future::join_all((0..50).map(|_| key(&chain))).await;
    assert!(all.iter().all(|key| key == "a"));
    assert_eq!(metadata.count("PUT"), 1);
    // A failure is shared as well, and the next who asks looks again.
    let silent = Server::start(|_| Some((500, String::new()))).await;
    world.instance_at(&silent);
    let chain = world.chain();
    let all = futures_util::future::join_all((0..50).map(|_| chain.current())).await;
    assert!(all.iter().all(Result::is_err));
    assert_eq!(silent.count("PUT"), 1);
    assert!(chain.current().await.is_err());
    assert_eq!(silent.count("PUT"), 2);
}

#[tokio::test]
async fn credentials_are_renewed_ahead_and_a_failed_renewal_keeps_the_old() {
    let state = Arc::new(Mutex::new(Some(("a", NOW + HOUR))));
    let answers = state.clone();
    let metadata = Server::start(move |request| match *answers.lock().unwrap() {
        Some((key, expires_ms)) => instance(request, || document(key, expires_ms)),
        None => Some((500, String::new())),
    })
    .await;
    let mut world = World::new();
    world.instance_at(&metadata);
    let chain = world.chain();
    assert_eq!(key(&chain).await, "a");
    // Nobody asks while they are fresh, and everybody has them while one renews them.
    world.pass(HOUR / 2);
    assert_eq!(key(&chain).await, "a");
    assert_eq!(metadata.count("PUT"), 1);

    *state.lock().unwrap() = None;
    world.pass(HOUR / 2 - 60_000);
    assert_eq!(key(&chain).await, "a");
    assert_eq!(metadata.count("PUT"), 2);
    let troubles = world.status.troubles();
    let (place, trouble) = &troubles[0];
    assert_eq!(place, "credentials");
    assert!(
        trouble.text.contains("500") && trouble.text.contains("hold for 1m"),
        "{}",
        trouble.text
    );
    // It is not asked at each request.
    assert_eq!(key(&chain).await, "a");
    assert_eq!(metadata.count("PUT"), 2);

    *state.lock().unwrap() = Some(("b", NOW + 2 * HOUR));
    world.pass(30_000);
    assert_eq!(key(&chain).await, "b");
    assert!(world.status.troubles().is_empty());

    // Past their end the old ones are no more, and the reason is said.
    *state.lock().unwrap() = None;
    world.pass(2 * HOUR);
    assert!(
        chain
            .current()
            .await
            .unwrap_err()
            .to_string()
            .contains("500")
    );
    *state.lock().unwrap() = Some(("c", NOW));
    let late = chain.current().await.unwrap_err().to_string();
    assert!(
        late.contains("expired at 2027-01-15") && late.contains("clock"),
        "{late}"
    );
}

#[test]
fn a_renewal_is_ahead_of_the_end_and_never_at_once() {
    for (left_ms, random, expected_ms) in [
        (HOUR, 0.0, HOUR - 300_000),
        (HOUR, 1.0, HOUR - 375_000),
        (60_000, 0.0, 45_000),
        (1_000, 0.0, 1_000),
        (0, 0.5, 1_000),
        (-5, 0.5, 1_000),
    ] {
        assert_eq!(
            renewal(NOW, NOW + left_ms, random),
            NOW + expected_ms,
            "{left_ms}"
        );
    }
    assert_eq!(retry(NOW, Lasting::Until(NOW + HOUR), 1.0), NOW + 30_000);
    assert_eq!(retry(NOW, Lasting::Until(NOW + 40_000), 1.0), NOW + 10_000);
    assert_eq!(retry(NOW, Lasting::Until(NOW), 1.0), NOW + 1_000);
    assert_eq!(retry(NOW, Lasting::UntilChanged, 0.0), NOW + 22_500);
}

/// Both clients at a bucket, with one chain each.
fn clients(world: &World, bucket: &Bucket) -> [(SharedStore, Arc<Chain>); 2] {
    let config = s3(Some(&bucket.address), true);
    let chains = [world.chain(), world.chain()];
    let rusoto = S3Store::with_chain(&config, "b", "", chains[0].clone()).unwrap();
    let object_store = ObjectStoreS3::with_chain(&config, "b", "", chains[1].clone()).unwrap();
    let [one, other] = chains;
    [(Arc::new(rusoto), one), (Arc::new(object_store), other)]
}

async fn put(store: &SharedStore, key: &str) -> Result<(), StoreError> {
    let body = Bytes::from_static(b"x");
    store
        .put(key, body, Some(Condition::Absent))
        .await
        .map(drop)
}

#[tokio::test]
async fn a_refused_key_is_looked_up_anew_and_the_request_is_made_again() {
    for (status, code) in [
        (400, "ExpiredToken"),
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (400, "InvalidToken"),
        (403, "AccessDenied"),
    ] {
        let current = shared("old");
        let metadata = instance_with(&current, NOW + HOUR).await;
        let mut world = World::new();
        world.instance_at(&metadata);
        let bucket = Bucket::start("old").await;
        *bucket.refusal.lock().unwrap() = (status, code);
        for (number, (store, _)) in clients(&world, &bucket).into_iter().enumerate() {
            *bucket.key.lock().unwrap() = "old".to_owned();
            *current.lock().unwrap() = "old".to_owned();
            put(&store, &format!("{number}-before")).await.unwrap();
            *bucket.key.lock().unwrap() = "new".to_owned();
            *current.lock().unwrap() = "new".to_owned();
            put(&store, &format!("{number}-after"))
                .await
                .unwrap_or_else(|error| panic!("{code} {store:?}: {error}"));
            let listed = store.get(&format!("{number}-after")).await.unwrap();
            assert_eq!(&listed.body[..], b"x");
        }
    }
}

#[tokio::test]
async fn what_stays_refused_says_whose_it_is_and_is_not_looked_up_each_time() {
    for (status, code, pause_ms) in [(400, "ExpiredToken", 5_000), (403, "AccessDenied", 60_000)] {
        let current = shared("old");
        let metadata = instance_with(&current, NOW + HOUR).await;
        let mut world = World::new();
        world.instance_at(&metadata);
        let bucket = Bucket::start("new").await;
        *bucket.refusal.lock().unwrap() = (status, code);
        for (number, (store, _)) in clients(&world, &bucket).into_iter().enumerate() {
            let before = metadata.count("PUT");
            for _ in 0..5 {
                let error = put(&store, "k").await.unwrap_err();
                let words = error.to_string();
                assert!(matches!(error, StoreError::Refused(_)), "{words}");
                assert!(
                    words.contains(code) && words.contains("instance's role role"),
                    "{words}"
                );
                assert!(!words.contains("secret of"), "{words}");
            }
            // Once to have them, once because they were refused.
            assert_eq!(metadata.count("PUT") - before, 2, "{code} {store:?}");
            world.pass(pause_ms);
            put(&store, "k").await.unwrap_err();
            assert_eq!(metadata.count("PUT") - before, 3, "{code} {store:?}");
            world.pass(pause_ms);
            *current.lock().unwrap() = "new".to_owned();
            put(&store, &format!("{number}-after")).await.unwrap();
            *current.lock().unwrap() = "old".to_owned();
        }
    }
}

#[tokio::test]
async fn a_file_that_was_rotated_is_read_when_its_old_key_is_refused() {
    let mut world = World::new();
    let keys = |key: &str| format!("[default]\naws_access_key_id={key}\naws_secret_access_key=s\n");
    let path = world.write("own", &keys("old"));
    world.settings = S3Credentials::File {
        path: path.into(),
        profile: None,
    };
    let bucket = Bucket::start("old").await;
    for (number, (store, chain)) in clients(&world, &bucket).into_iter().enumerate() {
        world.write("own", &keys("old"));
        *bucket.key.lock().unwrap() = "old".to_owned();
        put(&store, &format!("{number}-before")).await.unwrap();
        world.write("own", &keys("new"));
        // The old one is used as long as it is taken, or for a minute.
        put(&store, &format!("{number}-meanwhile")).await.unwrap();
        *bucket.key.lock().unwrap() = "new".to_owned();
        put(&store, &format!("{number}-after")).await.unwrap();
        world.write("own", &keys("newer"));
        world.pass(60_000);
        assert_eq!(key(&chain).await, "newer");
    }
}

#[tokio::test]
async fn keys_that_cannot_change_are_refused_without_another_look() {
    let mut world = World::new();
    world.set("AWS_ACCESS_KEY_ID", "wrong");
    world.set("AWS_SECRET_ACCESS_KEY", "hush");
    let bucket = Bucket::start("right").await;
    for (store, _) in clients(&world, &bucket) {
        let words = put(&store, "k").await.unwrap_err().to_string();
        assert!(
            words.contains("InvalidAccessKeyId") && words.contains("the environment"),
            "{words}"
        );
        assert!(!words.contains("hush"), "{words}");
    }
}

#[tokio::test]
async fn without_credentials_nothing_is_sent_and_the_places_are_named() {
    let world = World::new();
    let bucket = Bucket::start("a").await;
    for (store, _) in clients(&world, &bucket) {
        let error = put(&store, "k").await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Refused(why) if why.contains("AWS_ACCESS_KEY_ID")),
            "{error}"
        );
        assert!(store.identity().await.is_err());
    }
}

#[tokio::test]
async fn no_debug_output_shows_a_secret() {
    let mut world = World::new();
    world.set("AWS_ACCESS_KEY_ID", "AKIA1");
    world.set("AWS_SECRET_ACCESS_KEY", "hush");
    world.set("AWS_SESSION_TOKEN", "quiet");
    let chain = world.chain();
    let found = chain.current().await.unwrap();
    for text in [
        format!("{found:?}"),
        format!("{chain:#?}"),
        format!("{:?}", found.credentials),
    ] {
        for secret in ["AKIA1", "hush", "quiet"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
