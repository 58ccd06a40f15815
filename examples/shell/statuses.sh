#!/bin/sh
# Takes delivery statuses into pages/ until the mailbox is empty. Let cron run it:
#
#     PULLSTATUS_URL=http://127.0.0.1:8080 PULLSTATUS_SDKAPPID=1400006666 \
#         PULLSTATUS_APPKEY=... ./statuses.sh
#
# The server keeps each page in this reader's hand until it is acknowledged, which is when it is on
# disk here. Wherever this ends in between, the next run is handed the same page again and puts it
# into the same file, which has the page's name. The last name is in the file `last`, so that a page
# whose file somebody has fetched does not come again.
set -eu
umask 077
mkdir -p pages
sync .
exec 9>lock
flock --nonblock 9 || exit 0 # another run is at it
reader=${PULLSTATUS_READER:-shell}
url=${PULLSTATUS_URL%/}

fail() {
    echo "$1" >&2
    exit 1
}

# One page into page.new, its head into head.new; "$@": more of curl's flags. What is signed is on
# curl's standard input: anybody on the machine sees its arguments, and could pull with them.
pull() {
    time=$(date +%s) random=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
    sig=$(printf 'appkey=%s&random=%s&time=%s' "$PULLSTATUS_APPKEY" "$random" "$time" |
        openssl dgst -sha256 -r | cut -c1-64)
    curl --silent --show-error --fail-with-body --max-time 30 --output page.new \
        --dump-header head.new --header "Pullstatus-Reader: $reader" "$@" --config - <<END
url = "$url/v5/tlssmssvr/pullstatus?sdkappid=$PULLSTATUS_SDKAPPID&random=$random"
data = "{\"sig\":\"$sig\",\"time\":$time,\"type\":0,\"max\":100}"
END
}

header() { # what the head of the page says there
    tr -d '\r' <head.new | sed -n "s/^$1: //ip"
}

# A service that knows no readers hands out each page once, whether it arrives or not.
case $(curl --silent --show-error --max-time 3 --header "Connection: close" "$url/") in
'{"name":"pullstatus",'*'"reader"'*) ;;
*) fail "the service does not say that it knows readers: nothing was pulled" ;;
esac

set -- # without an acknowledgement the page in hand comes
[ ! -s last ] || set -- --header "Pullstatus-Ack: $(cat last)"
while :; do
    pull "$@"
    case $#,$(head -c 15 page.new) in
    *,'{"result":0,'*) ;;
    2,'{"result":1004,') set -- && continue ;; # it is not to be told of that page any more
    *) cat page.new >&2 && exit 1 ;;
    esac
    name=$(header pullstatus-pull-id)
    if [ "$(header pullstatus-reader)" != "$reader" ] || [ -z "$name" ]; then
        case $(tail -c 11 page.new) in
        *'"data":[]}') # behind a record it would not be the end
            [ "$(header pullstatus-reader)" = "$reader" ] && exit 0
            fail "an answer was given to no reader: something on the way drops headers"
            ;;
        esac
        sync page.new
        mv page.new "lone-$time.json"
        sync .
        fail "lone-$time.json was given to no reader, and will not come again"
    fi
    sync page.new
    mv page.new "pages/$name.json"
    sync pages
    echo "$name" >last.new
    mv last.new last
    set -- --header "Pullstatus-Ack: $name"
done
