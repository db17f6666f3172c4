//! A gRPC server that only knows how to be asked for its health (`grpc.health.v1`): what a probe of type `grpc` talks to.

#[path = "support/args.rs"]
mod args;

use args::Args;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::env;
use tokio::net::TcpListener;
use tonic::codegen::Service;
use tonic_health::ServingStatus;

const USAGE: &str = "\
usage: grpc_health [--serving true|false]

Answers grpc.health.v1.Health on HEALTH_PORT with SERVING (true) or NOT_SERVING (false).";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), String> {
    let Some(args) = Args::or_usage(USAGE) else { return Ok(()) };
    let serving = args.value("--serving", true)?;
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", status).await;

    let port = env::var("HEALTH_PORT").unwrap_or_else(|_| "0".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.map_err(|e| format!("port {port}: {e}"))?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let service = service.clone();
        let service = service_fn(move |request| service.clone().call(request));
        tokio::spawn(async move {
            // A client that goes away ends its connection, and nothing else.
            drop(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
        });
    }
}
