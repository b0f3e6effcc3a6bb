"""The Yandex IoT Core API."""
