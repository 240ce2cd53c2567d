"""The port of the local Lambda: invocations in Rust, everything else passed on to the control plane."""
