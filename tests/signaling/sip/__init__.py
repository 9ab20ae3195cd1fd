"""Tests of the SIP stack."""
