"""The contract between receiver and trainer: records, their protobuf form and their tables. No I/O, no frameworks."""
