"""The way of a recording: tap, segment, envelope, stage, delivery, verification, playback."""
