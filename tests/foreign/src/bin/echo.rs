//! Echoes events; an internal extension that is told of each invocation lives in its process.
use lambda_extension::{Extension, LambdaEvent as ExtensionEvent, NextEvent, service_fn as extension_fn};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

async fn internal(event: ExtensionEvent) -> Result<(), Error> {
    if let NextEvent::Invoke(invoke) = event.next {
        println!("internal extension: {}", invoke.request_id);
    }
    Ok(())
}

async fn echo(event: LambdaEvent<Value>) -> Result<Value, Error> {
    println!("function: {}", event.context.request_id);
    Ok(event.payload)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // Registered before the runtime's first /next; its loop runs beside it.
    let extension = Extension::new()
        .with_extension_name("internal")
        .with_events(&["INVOKE"])
        .with_events_processor(extension_fn(internal))
        .register()
        .await?;
    tokio::try_join!(lambda_runtime::run(service_fn(echo)), extension.run())?;
    Ok(())
}
