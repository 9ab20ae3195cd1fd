// What the softphone knows: one frozen object, and pure functions from what happens to the next one.

export const SIGNED_OUT = Object.freeze({
  connection: "signed_out", // signed_out, connecting, online, reconnecting, replaced
  user: "",
  agent: "offline",
  nextState: null,
  media: "closed", // closed, connecting, connected, failed: as this page sees it
  microphone: "unknown", // unknown, granted, refused, missing
  contact: null,
  heard: null, // quality of what the relay hears of us
  hears: null, // quality of what we hear
  notice: "", // how the last call ended, until the next
});

const ENDINGS = {
  hung_up_by_agent: "You ended the call.",
  hung_up_by_customer: "The caller hung up.",
  missed: "The call went on to somebody else.",
  rejected: "You rejected the call.",
  failed: "The connection to the caller was lost.",
};

export const endingText = (reason) => ENDINGS[reason] ?? "The call is over.";

export const change = (state, changes) => Object.freeze({ ...state, ...changes });

const withContact = (state, contactId, changes) =>
  state.contact?.id === contactId ? change(state, { contact: Object.freeze({ ...state.contact, ...changes }) }) : state;

/** The state after log-in; `now` in milliseconds of the page's clock. */
export function loggedIn(state, result, now) {
  const told = result.contact;
  const contact = told && Object.freeze({
    id: told.contact_id,
    state: told.state,
    number: told.number,
    queue: told.queue,
    onHold: told.on_hold,
    muted: told.muted,
    since: now - told.connected_s * 1000,
    ending: null,
  });
  return change(state, { connection: "online", user: result.user, agent: result.state, contact });
}

const NOTIFICATIONS = {
  "agent.state": (state, told) => change(state, { agent: told.state, nextState: told.next_state ?? null }),
  "contact.ringing": (state, told, now) =>
    change(state, {
      notice: "",
      contact: Object.freeze({
        id: told.contact_id, state: "ringing", number: told.number, queue: told.queue,
        onHold: false, muted: false, since: now, ending: null,
      }),
    }),
  "contact.connected": (state, told, now) => withContact(state, told.contact_id, { state: "connected", since: now }),
  "contact.held": (state, told) => withContact(state, told.contact_id, { onHold: true }),
  "contact.resumed": (state, told) => withContact(state, told.contact_id, { onHold: false }),
  "contact.muted": (state, told) => withContact(state, told.contact_id, { muted: true }),
  "contact.unmuted": (state, told) => withContact(state, told.contact_id, { muted: false }),
  "contact.ended": (state, told, now) =>
    change(withContact(state, told.contact_id, { state: "after_contact_work", ending: told.reason, since: now }), {
      notice: endingText(told.reason),
    }),
  "contact.closed": (state, told) =>
    state.contact?.id === told.contact_id ? change(state, { contact: null, heard: null }) : state,
  "media.quality": (state, told) => change(state, { heard: told }),
};

/** The state after a notification; unknown ones change nothing, so that a newer relay can say more. */
export function told(state, method, params, now) {
  const next = NOTIFICATIONS[method];
  return next ? next(state, params, now) : state;
}

/** The agent pressed answer; the relay has not confirmed it yet. */
export const accepting = (state) => withContact(state, state.contact?.id, { state: "connecting" });

/** It could not be answered after all. */
export const acceptFailed = (state) =>
  state.contact?.state === "connecting" ? withContact(state, state.contact.id, { state: "ringing" }) : state;

/** Whether the microphone belongs to a call: only then may its track be attached. */
export const isOnContact = (state) => state.contact?.state === "connected" || state.contact?.state === "connecting";

/** Whether the microphone's sound may leave: on a call, not muted and not on hold. */
export const isSpeaking = (state) => isOnContact(state) && !state.contact.muted && !state.contact.onHold;

/** The worse of both directions, figure by figure; null before anything is known. */
export function quality(state) {
  if (!state.heard && !state.hears) return null;
  const worse = (name) => {
    const known = [state.heard?.[name], state.hears?.[name]].filter((figure) => figure !== null && figure !== undefined);
    return known.length ? Math.max(...known) : null;
  };
  return { loss_ratio: worse("loss_ratio"), jitter_ms: worse("jitter_ms"), round_trip_ms: worse("round_trip_ms") };
}

const GRADES = [
  ["poor", 0.08, 80, 600],
  ["fair", 0.03, 40, 300],
  ["good", 0.01, 20, 150],
];

/** excellent, good, fair or poor: by loss, jitter and round trip, whichever is worst (limits after ITU-T G.107, G.114). */
export function grade(measured) {
  if (!measured) return "none";
  const over = (name, limit) => (measured[name] ?? 0) > limit;
  const found = GRADES.find(([, loss, jitter, roundTrip]) =>
    over("loss_ratio", loss) || over("jitter_ms", jitter) || over("round_trip_ms", roundTrip));
  return found ? found[0] : "excellent";
}

export function clock(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}
