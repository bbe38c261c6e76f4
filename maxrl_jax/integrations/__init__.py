"""Other libraries' formats and interfaces; each module needs its library."""
