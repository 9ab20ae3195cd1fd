// The one WebRTC connection: up before any call, with a microphone track that is attached only on a call.

const GATHERING_TIMEOUT_MS = 2_000;

/** Why there is no microphone: `refused` or `missing`. */
export class MicrophoneError extends Error {
  constructor(reason) {
    super(reason);
    this.reason = reason;
  }
}

export class Media {
  #calls; #connection = null; #sender = null; #microphone = null; #wanted = false;

  /** Calls back `onState(state)`, `onEar(stream)` and `onMicrophoneLost()`. */
  constructor(calls) {
    this.#calls = calls;
  }

  get microphone() {
    return this.#microphone;
  }

  get state() {
    return this.#connection?.connectionState ?? "closed";
  }

  /** Ask for the microphone; its sound goes nowhere yet. */
  async openMicrophone(deviceId = "") {
    if (!navigator.mediaDevices) throw new MicrophoneError("missing");
    const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
    if (deviceId) audio.deviceId = { exact: deviceId };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      throw new MicrophoneError(error.name === "NotAllowedError" ? "refused" : "missing");
    }
    const before = this.#microphone;
    this.#microphone = stream;
    const [track] = stream.getAudioTracks();
    track.enabled = before?.getAudioTracks()[0]?.enabled ?? false;
    track.onended = () => stream === this.#microphone && this.#calls.onMicrophoneLost();
    if (this.#wanted) await this.#sender?.replaceTrack(track);
    before?.getTracks().forEach((old) => old.stop());
  }

  /** Connect to the relay; `exchange(offer)` gives its answer. */
  async connect(iceServers, exchange) {
    this.close();
    const connection = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" });
    this.#connection = connection;
    connection.onconnectionstatechange = () => {
      if (connection === this.#connection) this.#calls.onState(connection.connectionState);
    };
    connection.ontrack = (event) => this.#calls.onEar(new MediaStream([event.track]));
    // A transceiver without a track: everything is negotiated, nothing is sent.
    this.#sender = connection.addTransceiver("audio", { direction: "sendrecv" }).sender;
    await connection.setLocalDescription();
    await gathered(connection);
    const answer = await exchange(connection.localDescription.sdp);
    if (connection !== this.#connection) return; // another connection took its place meanwhile
    await connection.setRemoteDescription({ type: "answer", sdp: answer });
    if (this.#wanted) await this.attach();
  }

  /** Put the microphone's track on the wire, silent until `speak(true)`. */
  async attach() {
    this.#wanted = true;
    await this.#sender?.replaceTrack(this.#microphone?.getAudioTracks()[0] ?? null);
  }

  /** Take it off the wire: not a packet leaves. */
  async detach() {
    this.#wanted = false;
    this.speak(false);
    await this.#sender?.replaceTrack(null);
  }

  speak(on) {
    for (const track of this.#microphone?.getAudioTracks() ?? []) track.enabled = on;
  }

  /** Loss, jitter and round trip of what we hear, or null. */
  async quality() {
    if (this.state !== "connected") return null;
    const quality = { loss_ratio: null, jitter_ms: null, round_trip_ms: null };
    for (const report of (await this.#connection.getStats()).values()) {
      if (report.type === "inbound-rtp" && report.packetsReceived) {
        quality.loss_ratio = Math.max(0, report.packetsLost) / (report.packetsReceived + Math.max(0, report.packetsLost));
        quality.jitter_ms = report.jitter * 1000;
      } else if (report.type === "candidate-pair" && report.nominated && report.currentRoundTripTime !== undefined) {
        quality.round_trip_ms = report.currentRoundTripTime * 1000;
      }
    }
    return quality;
  }

  close() {
    const connection = this.#connection;
    this.#connection = null;
    this.#sender = null;
    connection?.close();
  }

  /** Let the microphone go too. */
  end() {
    this.close();
    this.#wanted = false;
    const microphone = this.#microphone;
    this.#microphone = null;
    microphone?.getTracks().forEach((track) => track.stop());
  }
}

function gathered(connection) {
  return new Promise((resolve) => {
    const check = () => connection.iceGatheringState === "complete" && resolve();
    connection.addEventListener("icegatheringstatechange", check);
    setTimeout(resolve, GATHERING_TIMEOUT_MS);
    check();
  });
}
