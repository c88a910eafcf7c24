//! The group `control`: answers on the socket.
//!
//! Receives: connections. Sends: wishes for a reload to the supervisor. Owns: the socket. On
//! failure: the supervisor tries it again; nothing else is touched. Where nobody relies on the
//! socket and it cannot be made, that is said once and the group waits for its end.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use slog::{Logger, info, warn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::place::{Place, Surroundings};
use super::protocol::{Denied, REQUEST_MAX_BYTES, REQUEST_WITHIN, Request, WRITTEN_WITHIN};
use super::socket::{Socket, SocketError};
use crate::generation::{End, Failure, Generation};
use crate::supervisor::reload::Reloader;

/// Clients at once; more wait to be accepted. A few people who watch, and what they start.
const CLIENTS_MAX: usize = 16;

/// Of them, those that wait for a reload, which may take as long as a drain: the others find
/// places all the same.
const RELOADS_MAX: usize = 8;

/// Answers that are being written when the group ends have so long; they are small.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// The file may have been removed by a cleaner of temporary files: who looks for us would not
/// find us.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Accepting fails where the process has no file descriptors left: in a loop without a pause it
/// would take the CPU from those who could give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// What a connection is answered from.
#[derive(Debug)]
struct Desk {
    generation: Generation,
    reloader: Reloader,
    /// Places of those who wait for a reload.
    reloads: Semaphore,
}

/// Runs one generation of the group: answers until it is told to drain or stop.
///
/// # Errors
/// [`Failure::Group`] where there can be no socket that is relied on, or it has been taken away.
pub(super) async fn run(
    generation: Generation,
    surroundings: Surroundings,
    reloader: Reloader,
) -> Result<End, Failure> {
    let pulse = generation.pulse("socket");
    let place = surroundings.of_service(generation.config.status.socket.as_deref());
    let bound = Socket::bind(&place.path).await;
    pulse.waits("requests");
    let socket = match bound {
        Ok(socket) => socket,
        Err(error) => return without(&place, &error, &generation).await,
    };
    info!(generation.log, "socket listens"; "path" => %place.path.display());
    let desk = Rc::new(Desk {
        generation: generation.clone(),
        reloader,
        reloads: Semaphore::new(RELOADS_MAX),
    });
    let mut clients = JoinSet::new();
    let end = tokio::select! {
        failure = serve(&socket, &desk, &mut clients) => Err(failure),
        () = generation.drain.cancelled() => Ok(End::Drained),
        () = generation.stop.cancelled() => return Ok(End::Stopped),
    };
    // Nobody new; who has asked is answered.
    drop(socket);
    let answered = async { while clients.join_next().await.is_some() {} };
    // Who has not been answered by then sees the connection end.
    let _ = timeout(LAST_ANSWERS_WITHIN, answered).await;
    end
}

/// There can be no socket.
async fn without(
    place: &Place,
    error: &SocketError,
    generation: &Generation,
) -> Result<End, Failure> {
    let path = place.path.display();
    if place.is_relied_on {
        let words = format!("no socket at {path} for `groundtrack status` and `reload`: {error}");
        return Err(Failure::Group(words));
    }
    warn!(generation.log, "no socket, `groundtrack status` and `reload` will not find this process";
        "path" => %path, "error" => %error,
        "to_mend" => "name a path in status.socket, or make the folder for this user");
    tokio::select! {
        () = generation.drain.cancelled() => Ok(End::Drained),
        () = generation.stop.cancelled() => Ok(End::Stopped),
    }
}

/// Accepts for ever; returns what is wrong with the socket.
async fn serve(socket: &Socket, desk: &Rc<Desk>, clients: &mut JoinSet<()>) -> Failure {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (place, socket.listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            Some(_) = clients.join_next() => continue,
            _ = look.tick() => {
                if socket.is_in_place() {
                    continue;
                }
                return Failure::Group("the socket was removed from its place".to_owned());
            }
        };
        match accepted {
            Ok((stream, _)) => {
                let desk = desk.clone();
                clients.spawn_local(async move {
                    answer(stream, &desk).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(desk.generation.log, "connection not accepted"; "error" => %error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection: its line, its answer, its end. What goes wrong with it is its client's affair.
async fn answer(mut stream: UnixStream, desk: &Desk) {
    let answer = match read_request(&mut stream).await {
        Some(Request::Status) => {
            let status = &desk.generation.status;
            // Of the configuration in force: this generation may be older.
            to_line(&status.snapshot(status.max_age()))
        }
        Some(Request::Reload) => reload(&stream, desk).await,
        None => to_line(&Denied::new(
            "there are two commands, each in one line: status, reload",
        )),
    };
    let written = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    // Who does not read its answer does not want it.
    let _ = timeout(WRITTEN_WITHIN, written).await;
}

/// `None`: no command came within its time and its length.
async fn read_request(stream: &mut UnixStream) -> Option<Request> {
    let mut line = [0; REQUEST_MAX_BYTES];
    let mut held = 0;
    let whole = async {
        while held < line.len() && !line[..held].ends_with(b"\n") {
            match stream.read(&mut line[held..]).await {
                Ok(0) | Err(_) => break,
                Ok(read) => held += read,
            }
        }
    };
    // What came in time may be a command even where the client has not ended its side.
    let _ = timeout(REQUEST_WITHIN, whole).await;
    Request::parse(&line[..held])
}

async fn reload(stream: &UnixStream, desk: &Desk) -> Vec<u8> {
    let Ok(_place) = desk.reloads.try_acquire() else {
        return to_line(&Denied::new("too many wait for a reload already"));
    };
    log_asked(&desk.generation.log, stream);
    match desk.reloader.reload().await {
        Some(answer) => to_line(&answer),
        None => to_line(&Denied::new(
            "the process is ending, or has too many reloads to do",
        )),
    }
}

fn log_asked(log: &Logger, stream: &UnixStream) {
    let peer = stream.peer_cred().ok();
    info!(log, "reload asked for over the socket";
        "uid" => peer.map(|peer| peer.uid()),
        "pid" => peer.and_then(|peer| peer.pid()));
}

fn to_line(answer: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(answer).unwrap_or_else(|error| {
        let words = format!("{{\"error\":\"the answer cannot be written: {error}\"}}");
        words.into_bytes()
    });
    line.push(b'\n');
    line
}
