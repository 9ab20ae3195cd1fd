"""The page in real Chromium: states, keys, privacy of the microphone, and what it says when something is wrong."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import expect

from signaling.softphone.messages import ContactRequest, Problem, Quality, SetState
from tests.signaling.softphone.chromium import PACKETS_SENT, TRACKS, needs_chromium, phone
from tests.signaling.softphone.fake_service import TOKEN

pytestmark = [pytest.mark.interop, pytest.mark.slow, needs_chromium]


async def test_no_audio_leaves_before_the_answer_nor_after_the_call(tmp_path):
    async with phone(tmp_path) as ui:
        await ui.sign_in()
        await ui.become_available()
        await ui.ring()
        assert len(ui.relay.ready) == 1  # media was up before there was a contact
        assert await ui.page.evaluate(TRACKS) == [False]
        assert await ui.page.evaluate(PACKETS_SENT) == 0
        assert ui.audio_packets() == []

        await ui.page.get_by_role("button", name="Answer").click()
        await ui.stage("connected")
        async with asyncio.timeout(5):
            while not ui.audio_packets():
                ui.relay.sockets[0].arrived.clear()
                await ui.relay.sockets[0].arrived.wait()
        assert await ui.page.evaluate(TRACKS) == [True]

        await ui.page.get_by_role("button", name="End").click()
        await ui.stage("work")
        assert await ui.page.evaluate(TRACKS) == [False]
        at_the_end = await ui.page.evaluate(PACKETS_SENT)
        assert at_the_end > 0
        await ui.page.wait_for_timeout(300)
        assert await ui.page.evaluate(PACKETS_SENT) == at_the_end
        assert ui.errors == []


async def test_keys_drive_a_whole_call(tmp_path):
    async with phone(tmp_path) as ui:
        await ui.sign_in()
        await ui.become_available()
        await ui.ring()
        for key, stage in (
            ("a", "connected"),
            ("h", "held"),
            ("H", "connected"),
            ("m", "muted"),
            ("m", "connected"),
            ("e", "work"),
            ("d", "available"),
        ):
            await ui.press(key, stage)
        assert [request.action for request in ui.service.requests if isinstance(request, ContactRequest)] == [
            "accept",
            "hold",
            "resume",
            "mute",
            "unmute",
            "hang_up",
            "complete",
        ]
        assert SetState("available") in ui.service.requests


async def test_keys_can_be_switched_off_and_do_not_work_in_vain(tmp_path):
    async with phone(tmp_path) as ui:
        await ui.sign_in()
        await ui.become_available()
        for key in "hmedax":
            await ui.page.keyboard.press(key)
        await ui.ring()
        await ui.page.get_by_label("Use these keys").uncheck()
        await ui.page.keyboard.press("a")
        await ui.page.keyboard.press("Control+a")
        assert not any(isinstance(request, ContactRequest) for request in ui.service.requests)
        await ui.page.get_by_role("button", name="Reject").press("Enter")
        await ui.stage("available")
        await expect(ui.page.locator("#stage-text")).to_contain_text("You rejected the call.")


async def test_hold_and_mute_silence_the_microphone_in_the_page_too(tmp_path):
    enabled = "() => connections.flatMap((c) => c.getSenders()).map((sender) => sender.track?.enabled)"
    async with phone(tmp_path) as ui:
        await ui.sign_in()
        await ui.ring()
        await ui.press("a", "connected")
        await expect(ui.page.locator("#microphone-note")).to_have_text("on air")
        assert await ui.page.evaluate(enabled) == [True]
        for key, stage, note, speaks in (
            ("m", "muted", "muted", False),
            ("m", "connected", "on air", True),
            ("h", "held", "on hold", False),
        ):
            await ui.press(key, stage)
            await expect(ui.page.locator("#microphone-note")).to_have_text(note)
            assert await ui.page.evaluate(enabled) == [speaks]


async def test_a_lost_socket_comes_back_to_the_same_call_over_the_same_media(tmp_path):
    async with phone(tmp_path) as ui:
        await ui.sign_in()
        await ui.ring()
        await ui.press("a", "connected")
        first = ui.service.session
        first.close()
        await ui.service.wait_until(lambda: ui.service.session not in {None, first})
        await expect(ui.page.get_by_role("button", name="Hold")).to_be_enabled()
        await ui.page.keyboard.press("h")
        await ui.stage("held")
        assert len(ui.relay.ready) == 1
        assert ui.relay.lost == {}


async def test_a_reloaded_page_takes_the_call_up_again(tmp_path):
    async with phone(tmp_path) as ui:
        await ui.sign_in()
        await ui.ring()
        await ui.press("a", "connected")
        ui.page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
        await ui.page.reload()
        await ui.stage("connected")
        await ui.relay.wait_until(lambda: len(ui.relay.ready) == 2)
        await expect(ui.page.locator("#microphone-note")).to_have_text("on air")
        assert TOKEN not in ui.page.url


async def test_an_unknown_token_and_the_demo_button(tmp_path):
    async with phone(tmp_path) as ui:
        await ui.page.goto(ui.served.origin)
        await expect(ui.page.locator("#demo-button")).to_be_hidden()
        await ui.page.get_by_label("Access token").fill("nobody knows me")
        await ui.page.get_by_role("button", name="Sign in").click()
        await expect(ui.page.locator("#sign-in-error")).to_contain_text("not known")
        assert await ui.page.evaluate("sessionStorage.length") == 0
        await ui.page.get_by_label("Access token").fill(TOKEN)
        await ui.page.keyboard.press("Enter")
        await ui.stage("offline")
        await ui.page.get_by_role("button", name="Sign out").click()
        await expect(ui.page.get_by_role("button", name="Sign in")).to_be_visible()
        assert await ui.page.evaluate("sessionStorage.length + localStorage.length") == 0


async def test_the_older_page_learns_that_it_was_replaced(tmp_path):
    async with phone(tmp_path) as ui:
        await ui.sign_in()
        newer = await ui.page.context.new_page()
        await newer.goto(f"{ui.served.origin}/#token={TOKEN}")
        await expect(newer.locator("#quality-label")).to_have_text("Ready")
        await expect(ui.page.locator("#banner")).to_contain_text("signed in elsewhere")
        await ui.page.get_by_role("button", name="Use this page instead").click()
        await expect(ui.page.locator("#quality-label")).to_have_text("Ready")
        await expect(newer.locator("#banner")).to_contain_text("signed in elsewhere")


async def test_a_refused_microphone_is_explained(tmp_path):
    async with phone(tmp_path, flags=("--deny-permission-prompts",)) as ui:
        await ui.page.goto(f"{ui.served.origin}/#token={TOKEN}")
        await expect(ui.page.locator("#banner")).to_contain_text("The microphone is blocked.")
        await expect(ui.page.get_by_role("button", name="Try again")).to_be_visible()
        await expect(ui.page.locator("#microphone-note")).to_have_text("blocked")
        assert ui.relay.ready == {}


async def test_a_relay_that_is_gone_is_said_and_a_problem_is_shown(tmp_path):
    async with phone(tmp_path) as ui:
        await ui.sign_in()
        ui.service.notify(Problem("The store is full."))
        await expect(ui.page.locator("#banner")).to_contain_text("The store is full.")
        await ui.page.get_by_role("button", name="Dismiss").click()
        await expect(ui.page.locator("#banner")).to_be_hidden()
        await ui.served.server.stop()
        await expect(ui.page.locator("#banner")).to_contain_text("The relay cannot be reached.")


async def test_meters_timer_and_quality_live_during_a_call(tmp_path):
    async with phone(tmp_path) as ui:
        await ui.sign_in()
        await ui.ring()
        await ui.press("a", "connected")
        ui.service.notify(Quality(0.05, 12.0, 30.0))
        await expect(ui.page.locator("#quality-label")).to_have_text("Fair")
        await expect(ui.page.locator("#loss")).to_have_text("5.0 %")
        await expect(ui.page.locator("#timer")).to_have_text("0:01")
        # Chromium's fake microphone beeps once a second.
        await expect(ui.page.locator("#microphone-meter")).not_to_have_attribute("aria-valuenow", "-60")
        await ui.page.keyboard.press("e")
        await expect(ui.page.locator("#microphone-meter")).to_have_attribute("aria-valuenow", "-60")
