// The softphone: what the relay and the agent do becomes state, and state becomes page, microphone and ringing.

import { Media, MicrophoneError } from "./media.js";
import {
  SIGNED_OUT, acceptFailed, accepting, change, isOnContact, isSpeaking, loggedIn, told,
} from "./model.js";
import { CLOSE_LOG_IN, CLOSE_REPLACED, NOT_LOGGED_IN, Socket } from "./socket.js";
import { Sound } from "./sound.js";
import * as view from "./view.js";

const TOKEN_KEY = "koppel.token";
const METER_INTERVAL_MS = 60;
const MEDIA_RETRY_MS = [500, 2_000, 5_000, 10_000];
const UNHEARD_AFTER_MS = 3_000;
const SPEAKING_DB = -45;
const NOT_HEARD_DBOV = -100;

let state = SIGNED_OUT;
let socket = null;
let levels = { microphone: null, speaker: null };
let mediaAttempt = 0;
let mediaTimer = 0;
let iceServers = [];
let unheardSince = null;
const busy = new Set();
const sound = new Sound();
const ear = document.getElementById("ear");
const media = new Media({ onState: mediaChanged, onEar: hear, onMicrophoneLost: () => openAudio() });

// ---- state

function update(next) {
  const before = state;
  state = next;
  if (before.contact?.state !== "ringing" && state.contact?.state === "ringing") {
    sound.ring();
    view.announce(`Incoming call from ${state.contact.number || "an unknown number"}, queue ${state.contact.queue}. Press A to answer.`);
  } else if (before.contact?.state === "ringing" && state.contact?.state !== "ringing") {
    sound.stopRinging();
  }
  if (before.notice !== state.notice && state.notice) view.announce(state.notice);
  if (isOnContact(before) && !isOnContact(state)) media.detach();
  else if (!isOnContact(before) && isOnContact(state)) media.attach().then(() => media.speak(isSpeaking(state)));
  if (isOnContact(state)) media.speak(isSpeaking(state));
  view.render(state, busy);
}

// ---- the relay

function signIn(token) {
  sessionStorage.setItem(TOKEN_KEY, token);
  update(change(state, { connection: "connecting" }));
  socket?.end();
  socket = new Socket(new URL("/softphone", location.href.replace(/^http/, "ws")).href, {
    onOpen: () => logIn(token),
    onNotification: notified,
    onLost: lost,
    onEnd: ended,
  });
}

async function logIn(token) {
  try {
    const result = await socket.request("session.log_in", { token });
    socket.settled();
    iceServers = result.iceServers;
    view.banner(null);
    update(loggedIn(state, result, performance.now()));
    if (result.media !== "connected") media.close();
    if (media.state !== "connected") openAudio();
  } catch (error) {
    if (error.code === NOT_LOGGED_IN) signOut("This token is not known. Ask your supervisor for a new one.");
  }
}

function notified(method, params) {
  if (method === "media.levels") return compareLevels(params);
  if (method === "error") return view.banner({ kind: "warning", title: "The relay says:", text: params.message, action: ["dismiss", "Dismiss"] });
  if (method === "media.state" && params.state === "failed") retryMedia();
  update(told(state, method, params, performance.now()));
}

async function lost(attempt) {
  update(change(state, { connection: state.user ? "reconnecting" : "connecting" }));
  if (attempt < 2) return;
  // A WebSocket never says why. Whether plain https still works tells a relay that is gone from a way that is barred.
  const reachable = await fetch("/api/health", { cache: "no-store" }).then(() => true, () => false);
  if (state.connection === "online") return;
  view.banner(reachable
    ? { kind: "warning", title: "Waiting for the relay.", text: "It is there, but does not take this connection yet. Trying again." }
    : {
      kind: "warning",
      title: "The relay cannot be reached.",
      text: "It may be restarting, or its certificate is no longer accepted by this browser. Trying again; reload the page to accept a new certificate. A running call goes on.",
      action: ["reload", "Reload"],
    });
}

function ended(code) {
  media.end();
  if (code === CLOSE_REPLACED) {
    update(change(SIGNED_OUT, { connection: "replaced" }));
    view.banner({ kind: "warning", title: "You are signed in elsewhere.", text: "This page was signed out.", action: ["resume", "Use this page instead"] });
  } else if (code === CLOSE_LOG_IN && state.connection !== "signed_out") {
    signOut("The relay did not accept the log-in.");
  }
}

function signOut(reason = "") {
  sessionStorage.removeItem(TOKEN_KEY);
  socket?.end();
  socket = null;
  clearTimeout(mediaTimer);
  sound.stopRinging();
  media.end();
  ear.srcObject = null;
  view.banner(null);
  update(SIGNED_OUT);
  view.signInError(reason);
}

/** Ask the relay; a refusal is shown. Resolves with whether it was done. */
async function ask(name, method, params) {
  busy.add(name);
  view.render(state, busy);
  try {
    await socket.request(method, params);
    return true;
  } catch (error) {
    view.banner({ kind: "warning", title: "That did not work.", text: error.message, action: ["dismiss", "Dismiss"] });
    return false;
  } finally {
    busy.delete(name);
    view.render(state, busy);
  }
}

// ---- audio

async function openAudio(deviceId = "") {
  try {
    await media.openMicrophone(deviceId);
  } catch (error) {
    if (!(error instanceof MicrophoneError)) throw error;
    update(change(state, { microphone: error.reason }));
    view.banner(error.reason === "refused"
      ? { kind: "error", title: "The microphone is blocked.", text: "Allow it for this page: the icon left of the address, Site settings, Microphone.", action: ["audio", "Try again"] }
      : { kind: "error", title: "No microphone was found.", text: "Plug in a headset, then try again.", action: ["audio", "Try again"] });
    return;
  }
  levels.microphone?.stop();
  levels.microphone = sound.listen(media.microphone);
  update(change(state, { microphone: "granted" }));
  listDevices();
  if (media.state !== "connected") connectMedia();
}

async function connectMedia() {
  clearTimeout(mediaTimer);
  update(change(state, { media: "connecting" }));
  try {
    await media.connect(iceServers, async (sdp) => (await socket.request("media.connect", { sdp })).sdp);
  } catch {
    retryMedia();
  }
}

function retryMedia() {
  if (state.connection === "signed_out" || state.connection === "replaced") return;
  clearTimeout(mediaTimer);
  const pause = MEDIA_RETRY_MS[Math.min(mediaAttempt, MEDIA_RETRY_MS.length - 1)];
  mediaAttempt += 1;
  update(change(state, { media: "failed" }));
  mediaTimer = setTimeout(() => (state.connection === "online" ? connectMedia() : retryMedia()), pause);
}

function mediaChanged(connectionState) {
  if (connectionState === "connected") {
    mediaAttempt = 0;
    update(change(state, { media: "connected" }));
  } else if (connectionState === "failed" || connectionState === "closed") {
    retryMedia();
  }
}

function hear(stream) {
  ear.srcObject = stream;
  levels.speaker?.stop();
  levels.speaker = sound.listen(stream);
}

/** The relay says what it hears of us: speech that does not arrive is worth a word. */
function compareLevels(heard) {
  const speaking = isSpeaking(state) && levels.microphone?.() > SPEAKING_DB;
  if (!speaking || heard.microphone > NOT_HEARD_DBOV) {
    unheardSince = null;
    return;
  }
  unheardSince ??= performance.now();
  if (performance.now() - unheardSince > UNHEARD_AFTER_MS) {
    unheardSince = Infinity;
    view.banner({ kind: "error", title: "The caller may not hear you.", text: "Your microphone works, but its sound does not reach the relay.", action: ["dismiss", "Dismiss"] });
  }
}

async function listDevices() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const microphone = media.microphone?.getAudioTracks()[0]?.getSettings().deviceId;
  view.drawDevices(devices, { microphone, speaker: ear.sinkId });
}

// ---- the agent

const contactId = () => ({ contact_id: state.contact.id });

const ACTIONS = {
  "sign-in": (token) => token && signIn(token),
  "sign-in-demo": () => demoToken && signIn(demoToken),
  "sign-out": async () => {
    if (isOnContact(state)) {
      view.banner({ kind: "warning", title: "You are on a call.", text: "End it before you sign out.", action: ["dismiss", "Dismiss"] });
      return;
    }
    await socket?.request("agent.set_state", { state: "offline" }).catch(() => {});
    await socket?.request("media.disconnect").catch(() => {});
    signOut();
  },
  state: (wanted) => ask("state", "agent.set_state", { state: wanted }),
  async accept() {
    // The track goes on the wire with this very click, never before it.
    update(accepting(state));
    if (!await ask("accept", "contact.accept", contactId())) update(acceptFailed(state));
  },
  reject: () => ask("reject", "contact.reject", contactId()),
  end: () => ask("end", "contact.hang_up", contactId()),
  done: () => ask("done", "contact.complete", contactId()),
  hold() {
    if (!state.contact.onHold) media.speak(false);
    return ask("hold", state.contact.onHold ? "contact.resume" : "contact.hold", contactId()).then(() => update(state));
  },
  mute() {
    // Silent at once, whatever the relay says; the relay enforces it as well.
    if (!state.contact.muted) media.speak(false);
    return ask("mute", state.contact.muted ? "contact.unmute" : "contact.mute", contactId()).then(() => update(state));
  },
  audio: () => {
    view.banner(null);
    return openAudio();
  },
  microphone: (id) => openAudio(id),
  speaker: (id) => ear.setSinkId?.(id),
  resume: () => {
    view.banner(null);
    signIn(sessionStorage.getItem(TOKEN_KEY) ?? "");
  },
  reload: () => location.reload(),
  dismiss: () => view.banner(null),
};

// ---- the beginning

let demoToken = null;

async function begin() {
  view.listen((name, value) => ACTIONS[name]?.(value));
  setInterval(() => view.drawTimer(state, performance.now()), 250);
  setInterval(() => view.flashTitle(state), 1_000);
  setInterval(async () => {
    // What we hear is measured here; what the relay hears of us, it tells (media.quality).
    const hears = await media.quality();
    update(change(state, { hears }));
  }, 1_000);
  setInterval(() => {
    view.drawLevel("microphone", isSpeaking(state) ? levels.microphone?.() : null);
    view.drawLevel("speaker", isOnContact(state) ? levels.speaker?.() : null);
  }, METER_INTERVAL_MS);
  navigator.mediaDevices?.addEventListener("devicechange", listDevices);
  window.addEventListener("beforeunload", (event) => isOnContact(state) && event.preventDefault());

  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) history.replaceState(null, "", location.pathname);
  const token = given ?? sessionStorage.getItem(TOKEN_KEY);
  if (token) return signIn(token);
  update(SIGNED_OUT);
  const demo = await fetch("/api/demo", { cache: "no-store" }).then((answer) => answer.json(), () => ({ demo: false }));
  demoToken = demo.demo ? demo.token : null;
  view.offerDemo(Boolean(demoToken));
}

begin();
