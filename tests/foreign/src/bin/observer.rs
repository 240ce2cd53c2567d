//! An external extension that subscribes to telemetry and prints what it gets.
use lambda_extension::{
    Error, Extension, LambdaEvent, LambdaTelemetry, LambdaTelemetryRecord, LogBuffering, NextEvent,
    SharedService, service_fn,
};

async fn events(event: LambdaEvent) -> Result<(), Error> {
    match event.next {
        NextEvent::Invoke(invoke) => println!("event INVOKE {}", invoke.request_id),
        NextEvent::Shutdown(shutdown) => println!("event SHUTDOWN {}", shutdown.shutdown_reason),
    }
    Ok(())
}

async fn telemetry(batch: Vec<LambdaTelemetry>) -> Result<(), Error> {
    for event in batch {
        match event.record {
            LambdaTelemetryRecord::Function(line) => println!("telemetry Function {line:?}"),
            other => println!("telemetry {other:?}"),
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // The crate's default is one port for all; tests run side by side.
    let port = std::env::var("OBSERVER_PORT")?.parse()?;
    Extension::new()
        .with_events_processor(service_fn(events))
        .with_telemetry_types(&["platform", "function"])
        .with_telemetry_buffering(LogBuffering { timeout_ms: 25, ..LogBuffering::default() })
        .with_telemetry_port_number(port)
        .with_telemetry_processor(SharedService::new(service_fn(telemetry)))
        .run()
        .await
}
