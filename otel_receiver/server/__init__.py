"""The gRPC and HTTP servers; the only importers of grpc and of the HTTP server."""
