//! gRPC transports between Kontiki nodes and to native clients
