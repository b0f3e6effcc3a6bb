"""The Yandex IoT Core face."""
