//! `grpc.health.v1.Health/Check` of the empty service: healthy at `SERVING`.

use super::target::unanswered;
use crate::observed::ProbeOutcome;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

pub(super) async fn ask(port: u16) -> ProbeOutcome {
    let asked = format!("grpc.health.v1 on port {port}");
    let connected = match Endpoint::from_shared(format!("http://127.0.0.1:{port}")) {
        Ok(endpoint) => endpoint.connect().await,
        Err(error) => Err(error),
    };
    let channel = match connected {
        Ok(channel) => channel,
        Err(error) => return unanswered(&asked, &error),
    };
    match HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await {
        Ok(answer) => match answer.get_ref().status() {
            ServingStatus::Serving => ProbeOutcome::Success,
            other @ (ServingStatus::Unknown | ServingStatus::NotServing | ServingStatus::ServiceUnknown) => {
                ProbeOutcome::Failure(format!("{asked} answered {}", other.as_str_name()))
            }
        },
        Err(status) => refused(&asked, &status),
    }
}

fn refused(asked: &str, status: &Status) -> ProbeOutcome {
    match (status.code(), std::error::Error::source(status)) {
        (Code::Unimplemented, _) => ProbeOutcome::Failure(format!("{asked} is not implemented by the server")),
        (_, Some(source)) => unanswered(asked, source),
        (code, None) => ProbeOutcome::Failure(format!("{asked} answered {code}")),
    }
}
