"""`caloric emulate` in the place of AWS's emulator: the same command lines, started with the one and with the other."""
