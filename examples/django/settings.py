"""As little as Django runs on; the application `sms` is what this is about."""

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "for trying it only")
INSTALLED_APPS = ["sms"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "app.db",
        # A commit stays, whatever power is cut behind it. Django 5.1 or newer.
        "OPTIONS": {"init_command": "PRAGMA synchronous = EXTRA"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

PULLSTATUS_URL = os.environ.get("PULLSTATUS_URL", "http://127.0.0.1:8080")
PULLSTATUS_SDKAPPID = int(os.environ.get("PULLSTATUS_SDKAPPID", "1400006666"))
PULLSTATUS_APPKEY = os.environ.get("PULLSTATUS_APPKEY", "")
