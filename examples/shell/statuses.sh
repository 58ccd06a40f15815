#!/bin/sh
# Takes delivery statuses into pages/KEY.json until the mailbox is empty. Let cron run it:
#
#     PULLSTATUS_URL=http://127.0.0.1:8080 PULLSTATUS_SDKAPPID=1400006666 \
#         PULLSTATUS_APPKEY=... ./statuses.sh
#
# The file `key` names the page that is asked for. It is on disk before the page is asked for, and
# changes when the page is on disk. Wherever this ends in between, the next run asks for the same
# page and puts it into the same file.
set -eu
umask 077
mkdir -p pages
exec 9>lock
flock --nonblock 9 || exit 0 # another run is at it

new_key() {
    openssl rand -hex 16 >key.new
    sync key.new
    mv key.new key
    sync .
}

pull() { # KEY: one page into page.new, signed for this one attempt
    time=$(date +%s) random=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
    sig=$(printf 'appkey=%s&random=%s&time=%s' "$PULLSTATUS_APPKEY" "$random" "$time" |
        openssl dgst -sha256 -r | cut -c1-64)
    curl --silent --show-error --fail-with-body --max-time 30 --output page.new \
        --header "Idempotency-Key: $1" \
        --data "{\"sig\":\"$sig\",\"time\":$time,\"type\":0,\"max\":100}" \
        "$PULLSTATUS_URL/v5/tlssmssvr/pullstatus?sdkappid=$PULLSTATUS_SDKAPPID&random=$random"
}

[ -s key ] || new_key
while :; do
    key=$(cat key)
    pull "$key"
    case $(head -c 60 page.new) in
    '{"result":0,"errmsg":"ok","type":0,"count":0,'*) exit 0 ;; # the key waits for its page
    '{"result":0,'*) ;;
    *) cat page.new >&2 && exit 1 ;;
    esac
    sync page.new
    mv page.new "pages/$key.json"
    sync pages
    new_key
done
