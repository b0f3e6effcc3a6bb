"""What is true of certificates, keys and authorities. Pure: no I/O, no framework, no clock of its own."""
