// JSON-RPC 2.0 over a WebSocket that comes back by itself.

const REQUEST_TIMEOUT_MS = 20_000;
const PING_INTERVAL_MS = 15_000;
const BACK_OFF_MS = [300, 1_000, 2_000, 4_000, 8_000, 15_000];

export const CLOSE_LOG_IN = 4001;
export const CLOSE_REPLACED = 4002;
export const NOT_LOGGED_IN = -32001;

/** The relay refused a request, or could not be reached. */
export class RequestError extends Error {
  constructor(message, code = 0) {
    super(message);
    this.code = code;
  }
}

/** Calls back `onOpen`, `onNotification(method, params)`, `onLost(attempt)` and `onEnd(code)`. */
export class Socket {
  #url; #calls; #socket = null; #waiting = new Map(); #number = 0; #attempt = 0; #timer = 0; #pinger = 0; #ended = false;

  constructor(url, calls) {
    this.#url = url;
    this.#calls = calls;
    this.#open();
  }

  /** Send a request; resolves with its result. */
  request(method, params = {}) {
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) {
        reject(new RequestError("The relay cannot be reached just now."));
        return;
      }
      const id = ++this.#number;
      const timer = setTimeout(() => this.#settle(id, { error: { message: "The relay did not answer." } }), REQUEST_TIMEOUT_MS);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    });
  }

  /** Log-in succeeded: the next loss begins with the shortest pause again. */
  settled() {
    this.#attempt = 0;
  }

  end() {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
  }

  #open() {
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => {
      this.#pinger = setInterval(() => this.request("session.ping").catch(() => socket.close(4000)), PING_INTERVAL_MS);
      this.#calls.onOpen();
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#closed(event.code);
  }

  #receive(text) {
    const message = JSON.parse(text);
    if (message.id !== undefined && message.id !== null) this.#settle(message.id, message);
    else if (message.method) this.#calls.onNotification(message.method, message.params ?? {});
  }

  #settle(id, message) {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    if (message.error) waiting.reject(new RequestError(message.error.message, message.error.code));
    else waiting.resolve(message.result);
  }

  #closed(code) {
    clearInterval(this.#pinger);
    for (const id of [...this.#waiting.keys()]) this.#settle(id, { error: { message: "The relay is gone." } });
    if (this.#ended) return;
    if (code === CLOSE_LOG_IN || code === CLOSE_REPLACED) {
      this.#ended = true;
      this.#calls.onEnd(code);
      return;
    }
    const pause = BACK_OFF_MS[Math.min(this.#attempt, BACK_OFF_MS.length - 1)];
    this.#attempt += 1;
    this.#calls.onLost(this.#attempt);
    // All phones lose a relay that restarts at the same moment; they need not all come back at the same moment.
    this.#timer = setTimeout(() => this.#open(), pause * (0.75 + Math.random() / 2));
  }
}
