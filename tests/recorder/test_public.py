import recorder


def test_every_public_name_is_there_and_listed_in_order():
    assert recorder.__all__ == sorted(set(recorder.__all__), key=lambda name: (not name.isupper(), name))
    assert all(hasattr(recorder, name) for name in recorder.__all__)
