"""An extension with `caloric.extension`: invocations, telemetry, the end."""

from caloric.extension import Extension

extension = Extension("bench")
extension.on_invoke(lambda event: None)
extension.on_telemetry("platform", "function")(lambda records: None)
extension.on_shutdown(lambda event: None)
extension.run()
