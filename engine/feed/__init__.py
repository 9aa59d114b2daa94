"""Where raw transactions come from: a node (`zmq`), block files (`replay`), a generator
(`synthetic`)."""
