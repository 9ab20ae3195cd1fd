// The page: draws the state, and says what the agent did.

import { clock, grade, isOnContact, isSpeaking, quality } from "./model.js";

const $ = (id) => document.getElementById(id);

const IDLE = {
  offline: ["icon-power", "You are offline", "Choose Available when you want to take calls."],
  break: ["icon-cup", "On a break", "Calls go to the others until you are back."],
  available: ["icon-phone", "Ready for calls", "The next call rings here. Your microphone is detached until you answer."],
};
const PREPARING = ["icon-phone", "Connecting your audio …", "Calls can ring as soon as it is up."];
const AWAY = ["icon-power", "Reconnecting …", "No call can ring here until the relay is back."];
const GRADES = { excellent: "Excellent", good: "Good", fair: "Fair", poor: "Poor" };
const FREE = ["available", "break", "offline"];
const CONTROLS = {
  ringing: ["reject", "accept"],
  connecting: ["end"],
  connected: ["mute", "hold", "end"],
  after_contact_work: ["done"],
};
const ACTIONS = ["accept", "reject", "mute", "hold", "end", "done"];
const KEYS = { a: "accept", r: "reject", m: "mute", h: "hold", e: "end", d: "done" };
const SHORTCUTS_KEY = "koppel.shortcuts";

/** Wire the page; `act(name, value)` is called for what the agent does. */
export function listen(act) {
  $("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    act("sign-in", $("token").value.trim());
    $("token").value = "";
  });
  $("demo-button").addEventListener("click", () => act("sign-in-demo"));
  $("sign-out").addEventListener("click", () => act("sign-out"));
  $("banner-action").addEventListener("click", () => act($("banner-action").dataset.action));
  $("agent-state").addEventListener("change", (event) => act("state", event.target.value));
  $("microphone-device").addEventListener("change", (event) => act("microphone", event.target.value));
  $("speaker-device").addEventListener("change", (event) => act("speaker", event.target.value));
  for (const name of ACTIONS) $(name).addEventListener("click", () => act(name));
  $("shortcuts-on").checked = localStorage.getItem(SHORTCUTS_KEY) !== "off";
  $("shortcuts-on").addEventListener("change", (event) =>
    localStorage.setItem(SHORTCUTS_KEY, event.target.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => shortcut(event));
}

function shortcut(event) {
  const typing = event.target.closest("input:not([type=radio], [type=checkbox]), select, textarea");
  if (typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey || !$("shortcuts-on").checked) return;
  const name = KEYS[event.key.toLowerCase()];
  if (!name || $(name).hidden || $(name).disabled) return;
  event.preventDefault();
  $(name).click();
}

export function render(state, busy) {
  const signedOut = !state.user;
  const focused = document.activeElement;
  $("sign-in").hidden = !signedOut;
  $("phone").hidden = signedOut;
  if (signedOut) {
    document.title = "Koppel";
    $("sign-in").dataset.waiting = String(state.connection === "connecting");
    $("sign-in-button").disabled = state.connection === "connecting";
    setText("sign-in-button", state.connection === "connecting" ? "Signing in …" : "Sign in");
    return;
  }
  $("user").textContent = state.user;
  drawAgentState(state, busy);
  drawStage(state);
  drawControls(state, busy);
  drawAudio(state);
  drawQuality(state);
  document.title = pageTitle(state);
  if (focused !== document.body && focused.closest("[hidden]")) $("stage").focus();
}

function drawAgentState(state, busy) {
  if (busy.has("state")) return; // the choice stands until the relay has answered
  const shown = FREE.includes(state.agent) ? state.agent : state.nextState ?? "available";
  for (const input of $("agent-state").querySelectorAll("input")) {
    input.checked = input.value === shown;
    input.disabled = state.connection !== "online";
  }
}

function drawStage(state) {
  const contact = state.contact;
  const [stage, icon, eyebrow, title, text] = contact ? contactStage(contact) : idleStage(state);
  $("stage").dataset.stage = stage;
  $("orb-icon").setAttribute("href", `#${icon}`);
  setText("stage-eyebrow", eyebrow);
  setText("stage-title", title);
  setText("stage-text", text);
  $("timer").hidden = !contact || contact.state === "ringing" || contact.state === "connecting";
}

function contactStage(contact) {
  const caller = contact.number || "Unknown number";
  switch (contact.state) {
    case "ringing":
      return ["ringing", "icon-phone", `Incoming call · ${contact.queue}`, caller, "Answer to connect your microphone."];
    case "connecting":
      return ["connecting", "icon-phone", contact.queue, caller, "Connecting …"];
    case "after_contact_work":
      return ["work", "icon-note", contact.queue, "After-contact work", "Finish your notes, then press Done."];
    default:
      if (contact.onHold) {
        return ["held", "icon-pause", `${contact.queue} · on hold`, caller, "The caller hears music. Nobody hears you."];
      }
      return contact.muted
        ? ["muted", "icon-microphone-off", `${contact.queue} · muted`, caller, "You hear the caller. Nobody hears you."]
        : ["connected", "icon-phone", contact.queue, caller, "You are connected."];
  }
}

function idleStage(state) {
  if (state.connection !== "online") return ["preparing", AWAY[0], "", AWAY[1], AWAY[2]];
  const prepared = state.agent !== "available" || state.media === "connected";
  const [icon, title, text] = prepared ? IDLE[state.agent] ?? IDLE.available : PREPARING;
  return [prepared ? state.agent : "preparing", icon, "", title, state.notice ? `${state.notice} ${text}` : text];
}

function drawControls(state, busy) {
  const shown = CONTROLS[state.contact?.state] ?? [];
  for (const name of ACTIONS) {
    $(name).hidden = !shown.includes(name);
    $(name).disabled = busy.has(name) || state.connection !== "online";
  }
  toggle("mute", state.contact?.muted, ["Mute", "Unmute"], ["icon-microphone", "icon-microphone-off"]);
  toggle("hold", state.contact?.onHold, ["Hold", "Resume"], ["icon-pause", "icon-play"]);
}

function toggle(name, on, [off, back], [icon, iconOn]) {
  $(name).dataset.on = String(Boolean(on));
  setText(`${name}-label`, on ? back : off);
  $(`${name}-icon`).setAttribute("href", `#${on ? iconOn : icon}`);
}

function drawAudio(state) {
  const microphone = { refused: "blocked", missing: "not found" }[state.microphone];
  const contact = isSpeaking(state) ? "on air" : isOnContact(state) ? (state.contact.onHold ? "on hold" : "muted") : "detached";
  setText("microphone-note", microphone ?? contact);
  $("microphone-note").dataset.on = String(!microphone && contact === "on air");
  $("microphone-icon").setAttribute("href", isSpeaking(state) ? "#icon-microphone" : "#icon-microphone-off");
}

function drawQuality(state) {
  const measured = state.media === "connected" ? quality(state) : null;
  const audio = { connecting: "Connecting …", failed: "No audio connection", closed: "Audio is off" }[state.media];
  const label = audio ?? (state.connection === "online" || isOnContact(state) ? undefined : "Relay out of reach");
  const found = isOnContact(state) ? grade(measured) : "none";
  $("quality").dataset.grade = label ? "none" : found === "none" ? "ready" : found;
  setText("quality-label", label ?? GRADES[found] ?? "Ready");
  setText("loss", figure(measured?.loss_ratio, (loss) => `${(loss * 100).toFixed(1)} %`));
  setText("jitter", figure(measured?.jitter_ms, (jitter) => `${Math.round(jitter)} ms`));
  setText("round-trip", figure(measured?.round_trip_ms, (trip) => `${Math.round(trip)} ms`));
}

const figure = (value, write) => (value === null || value === undefined ? "–" : write(value));

function pageTitle(state) {
  if (state.contact?.state === "ringing") return `☎ ${state.contact.number || "Call"} · Koppel`;
  if (state.contact?.onHold) return "On hold · Koppel";
  return isOnContact(state) ? "On a call · Koppel" : "Koppel";
}

/** While it rings, every other second the title is another. */
export function flashTitle(state) {
  if (state.contact?.state !== "ringing") return;
  document.title = document.title.startsWith("☎") ? `Incoming call · ${state.contact.queue}` : pageTitle(state);
}

export function drawTimer(state, now) {
  if (state.contact && !$("timer").hidden) setText("timer", clock(now - state.contact.since));
}

/** Loudness in dB on a meter; null: nothing to show. */
export function drawLevel(name, level) {
  const meter = $(`${name}-meter`);
  const shown = Math.round(level ?? -60);
  if (meter.getAttribute("aria-valuenow") === String(shown)) return;
  meter.setAttribute("aria-valuenow", String(shown));
  meter.firstElementChild.style.setProperty("--level", String(Math.max(0, Math.min(1, (shown + 60) / 54))));
}

/** `message`: {title, text, action: [name, label]}, or null to take it away. */
export function banner(message) {
  $("banner").hidden = !message;
  setText("banner-title", message?.title ?? "");
  setText("banner-text", message?.text ?? "");
  $("banner").dataset.kind = message?.kind ?? "";
  $("banner-action").hidden = !message?.action;
  if (message?.action) {
    $("banner-action").dataset.action = message.action[0];
    setText("banner-action", message.action[1]);
  }
}

export function announce(text) {
  setText("announcement", text);
}

export function signInError(text) {
  setText("sign-in-error", text);
  $("token").focus();
}

export function offerDemo(offered) {
  $("demo-button").hidden = !offered;
}

/** Fill the device pickers; `current` are the ids in use. */
export function drawDevices(devices, current) {
  fill("microphone-device", devices.filter((device) => device.kind === "audioinput"), current.microphone);
  const speakers = devices.filter((device) => device.kind === "audiooutput");
  $("speaker-choice").hidden = speakers.length < 2 || !("setSinkId" in HTMLMediaElement.prototype);
  fill("speaker-device", speakers, current.speaker);
}

function fill(id, devices, current) {
  $(id).replaceChildren(...devices.map((device, index) => {
    const option = new Option(device.label || `Device ${index + 1}`, device.deviceId);
    option.selected = device.deviceId === current;
    return option;
  }));
}

function setText(id, text) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
}
