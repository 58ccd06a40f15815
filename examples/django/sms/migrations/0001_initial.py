"""The tables as they are at first."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Makes both."""

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Page",
            fields=[
                (
                    "pull_id",
                    models.CharField(max_length=64, primary_key=True, serialize=False),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Status",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("sid", models.CharField(db_index=True, max_length=64)),
                ("mobile", models.CharField(max_length=32)),
                ("delivered", models.BooleanField()),
                ("received_at", models.DateTimeField(null=True)),
            ],
        ),
    ]
