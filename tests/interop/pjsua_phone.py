"""PJSIP's telephone in a process of its own: TLS, mandatory SRTP, A-law; obeys JSON lines, and keeps what it hears.

`python pjsua_phone.py` reads its setup as the first line: `dial`, `username`, `password`, `ca_file`, `microphone` (a WAV
file that it plays over and over), `folder` for what it hears.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time

import pjsua2


def tell(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Call(pjsua2.Call):
    """The one call: its microphone is a file, and so is its ear."""

    def __init__(self, account: pjsua2.Account, microphone: str) -> None:
        super().__init__(account)
        self._player = pjsua2.AudioMediaPlayer()
        self._player.createPlayer(microphone)
        self.audio: pjsua2.AudioMedia | None = None

    def onCallState(self, _: pjsua2.OnCallStateParam) -> None:  # noqa: N802 - pjsua2's name
        info = self.getInfo()
        tell(event=info.stateText, status=info.lastStatusCode)

    def onCallMediaState(self, _: pjsua2.OnCallMediaStateParam) -> None:  # noqa: N802 - pjsua2's name
        info = self.getInfo()
        self.audio = self.getAudioMedia(-1)
        if info.media[0].status == pjsua2.PJSUA_CALL_MEDIA_ACTIVE:
            self._player.startTransmit(self.audio)
        tell(event="media", status=info.media[0].status)


def configured(setup: dict[str, str]) -> tuple[pjsua2.Endpoint, pjsua2.Account]:
    endpoint = pjsua2.Endpoint()
    endpoint.libCreate()
    config = pjsua2.EpConfig()
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    config.logConfig.level = config.logConfig.consoleLevel = 0
    endpoint.libInit(config)
    endpoint.audDevManager().setNullDev()
    transport = pjsua2.TransportConfig()
    transport.boundAddress = "127.0.0.1"
    transport.tlsConfig.CaListFile = setup["ca_file"]
    transport.tlsConfig.verifyServer = True
    endpoint.transportCreate(pjsua2.PJSIP_TRANSPORT_TLS, transport)
    endpoint.libStart()
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith("PCMA") else 0)
    account_config = pjsua2.AccountConfig()
    account_config.idUri = f"sip:{setup['username']}@127.0.0.1"
    account_config.sipConfig.authCreds.append(
        pjsua2.AuthCredInfo("digest", "*", setup["username"], 0, setup["password"])
    )
    account_config.mediaConfig.srtpUse = pjsua2.PJMEDIA_SRTP_MANDATORY
    account_config.mediaConfig.srtpSecureSignaling = 1
    account_config.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
    account = pjsua2.Account()
    account.create(account_config)
    return endpoint, account


class Ear:
    """Keeps what is heard for a while in a file."""

    def __init__(self, audio: pjsua2.AudioMedia, file: str, seconds: float) -> None:
        self._audio, self._file = audio, file
        self._until = time.monotonic() + seconds
        self._recorder = pjsua2.AudioMediaRecorder()
        self._recorder.createRecorder(file)
        audio.startTransmit(self._recorder)

    def is_over(self) -> bool:
        """Whether the time is up; then the file is whole."""
        if time.monotonic() < self._until:
            return False
        self._audio.stopTransmit(self._recorder)
        del self._recorder  # which closes the file
        tell(event="heard", file=self._file)
        return True


def obey(call: Call, command: dict[str, object]) -> None:
    match command:
        case {"do": "hold"}:
            call.setHold(pjsua2.CallOpParam(True))
        case {"do": "resume"}:
            parameters = pjsua2.CallOpParam(True)
            parameters.opt.flag = pjsua2.PJSUA_CALL_UNHOLD
            call.reinvite(parameters)
        case {"do": "dtmf", "digits": str() as digits}:
            call.dialDtmf(digits)
        case {"do": "hang_up"}:
            call.hangup(pjsua2.CallOpParam())


def work(endpoint: pjsua2.Endpoint, account: pjsua2.Account, setup: dict[str, str]) -> None:
    commands: queue.Queue[dict[str, object]] = queue.Queue()
    threading.Thread(target=lambda: [commands.put(json.loads(line)) for line in sys.stdin], daemon=True).start()
    call = Call(account, setup["microphone"])
    call.makeCall(setup["dial"], pjsua2.CallOpParam(True))
    ears: list[Ear] = []
    heard = 0
    while True:
        endpoint.libHandleEvents(20)
        ears = [ear for ear in ears if not ear.is_over()]
        try:
            command = commands.get_nowait()
        except queue.Empty:
            continue
        match command:
            case {"do": "listen", "seconds": float() as seconds} if call.audio is not None:
                heard += 1
                ears.append(Ear(call.audio, f"{setup['folder']}/heard-{heard}.wav", seconds))
            case {"do": "quit"}:
                return
            case _:
                obey(call, command)


def main() -> None:
    setup = json.loads(sys.stdin.readline())
    endpoint, account = configured(setup)
    work(endpoint, account, setup)
    account.shutdown()
    endpoint.libDestroy()


if __name__ == "__main__":
    main()
