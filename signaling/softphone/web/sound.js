// Web Audio: loudness of streams for the meters, and the ringing tone.

const FLOOR_DB = -60;

export class Sound {
  #context = null; #ringing = 0;

  #open() {
    this.#context ??= new AudioContext();
    // Browsers start it suspended until the page was touched or may use the microphone.
    if (this.#context.state === "suspended") this.#context.resume().catch(() => {});
    return this.#context;
  }

  /** A function that gives the present loudness of a stream in dB, from -60 to 0. */
  listen(stream) {
    const context = this.#open();
    const analyser = new AnalyserNode(context, { fftSize: 1024 });
    const source = context.createMediaStreamSource(stream);
    source.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const level = () => {
      analyser.getFloatTimeDomainData(samples);
      let energy = 0;
      for (const sample of samples) energy += sample * sample;
      return Math.max(FLOOR_DB, 10 * Math.log10(energy / samples.length + 1e-12));
    };
    level.stop = () => source.disconnect();
    return level;
  }

  ring() {
    if (this.#ringing) return;
    this.#chime();
    this.#ringing = setInterval(() => this.#chime(), 2_400);
  }

  stopRinging() {
    clearInterval(this.#ringing);
    this.#ringing = 0;
  }

  /** Three soft notes, twice. */
  #chime() {
    const context = this.#open();
    const notes = [659.3, 830.6, 987.8];
    for (const [index, frequency] of [...notes, ...notes].entries()) {
      const at = context.currentTime + 0.05 + index * 0.16 + (index >= notes.length ? 0.3 : 0);
      const gain = new GainNode(context, { gain: 0 });
      const tone = new OscillatorNode(context, { type: "triangle", frequency });
      gain.gain.setValueAtTime(0, at);
      gain.gain.linearRampToValueAtTime(0.16, at + 0.012);
      gain.gain.exponentialRampToValueAtTime(0.0005, at + 0.5);
      tone.connect(gain).connect(context.destination);
      tone.start(at);
      tone.stop(at + 0.55);
    }
  }
}
