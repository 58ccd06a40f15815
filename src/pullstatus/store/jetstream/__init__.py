"""The engine over a cluster of NATS JetStream: being built, and not to be opened by a URL yet."""
