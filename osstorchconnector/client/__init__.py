"""The OSS client: pure protocol below, transports beside it, a synchronous face on top."""
