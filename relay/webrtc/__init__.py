"""ICE and DTLS of browsers over the shared media sockets, by aiortc, until the plane has the keys."""
