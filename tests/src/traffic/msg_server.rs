//! The server of the long-lived connections: checks what it receives and sends numbered messages at its own pace.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior};

use super::message::{CORRUPT, Checker, Direction, Message};

/// Serves until the process is killed. Prints one line when it listens.
///
/// # Errors
/// When the address cannot be bound.
pub fn serve(listen: SocketAddr, interval: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
        super::say(&serde_json::json!({ "event": "ready" }))?;
        loop {
            let (stream, _) = listener.accept().await?;
            // A connection that ends in an error has been reported by the client, which counts it.
            tokio::spawn(async move { converse(stream, interval).await });
        }
    })
}

async fn converse(mut stream: TcpStream, interval: Duration) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut checker = Checker::new(Direction::ToServer, None);
    let mut number = 0;
    let mut buffer = vec![0; 16 * 1024];
    let mut timer = tokio::time::interval_at(Instant::now() + interval, interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                checker.feed(&buffer[..length]);
                loop {
                    match checker.take() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => {
                            let connection = checker.connection().unwrap_or(0);
                            let verdict = Message { connection, number: number + 1, ack: CORRUPT };
                            stream.write_all(&verdict.encode(Direction::ToClient)).await?;
                            return Ok(());
                        }
                    }
                }
            }
            _ = timer.tick() => {
                // Nothing to say before the client has named the connection.
                let Some(connection) = checker.connection() else { continue };
                number += 1;
                let message = Message { connection, number, ack: checker.last };
                stream.write_all(&message.encode(Direction::ToClient)).await?;
            }
        }
    }
}
