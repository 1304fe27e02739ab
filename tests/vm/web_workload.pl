# A workload that speaks HTTP and WebSocket, with what a small perl has. tests/vm/test_agent_proxy.py
STDOUT->autoflush(1);
$SIG{CHLD} = "IGNORE";
$SIG{PIPE} = "IGNORE";
sub rol { my ($x, $n) = @_; (($x << $n) | ($x >> (32 - $n))) & 0xffffffff }
sub sha1 {
    my $m = shift; my $l = 8 * length $m; my @h = (0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0);
    $m .= "\x80"; $m .= "\0" while length($m) % 64 != 56; $m .= pack("NN", 0, $l);
    for my $block (unpack("(a64)*", $m)) {
        my @w = unpack("N16", $block);
        for (16 .. 79) { $w[$_] = rol($w[$_ - 3] ^ $w[$_ - 8] ^ $w[$_ - 14] ^ $w[$_ - 16], 1) }
        my ($a, $b, $c, $d, $e) = @h;
        for (0 .. 79) {
            my ($f, $k) = $_ < 20 ? (($b & $c) | (~$b & 0xffffffff & $d), 0x5a827999) : $_ < 40 ? ($b ^ $c ^ $d, 0x6ed9eba1)
                : $_ < 60 ? (($b & $c) | ($b & $d) | ($c & $d), 0x8f1bbcdc) : ($b ^ $c ^ $d, 0xca62c1d6);
            my $t = (rol($a, 5) + $f + $e + $k + $w[$_]) & 0xffffffff;
            ($e, $d, $c, $b, $a) = ($d, $c, rol($b, 30), $a, $t);
        }
        my @s = ($a, $b, $c, $d, $e);
        $h[$_] = ($h[$_] + $s[$_]) & 0xffffffff for 0 .. 4;
    }
    pack("N5", @h);
}
sub base64 {
    my $in = shift; my $out = pack("u", $in); my $pad = (3 - length($in) % 3) % 3;
    $out =~ s/^.//mg; $out =~ s/\n//g; $out =~ tr|` -_|AA-Za-z0-9+/|; $out =~ s/.{$pad}$/"=" x $pad/e if $pad;
    $out;
}
sub answer { my ($c, $type, $body) = @_; print $c "HTTP/1.1 200 OK\r\nContent-Type: $type\r\nContent-Length: ", length($body), "\r\nConnection: close\r\n\r\n$body" }
my $door = IO::Socket::INET->new(LocalPort => 80, Listen => 1024, ReuseAddr => 1) or die "port 80: $!";
while (1) {
    my $c = $door->accept or next;
    next if fork();
    binmode $c; $c->autoflush(1);
    my $asked = <$c> // exit; my %h;
    while (<$c>) { last if /^\r?$/; $h{lc $1} = $2 if /^([^:]+):\s*(.*?)\r?$/ }
    if ($asked =~ m{^GET /stream}) {
        print $c "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (my $n = 0; ; $n++) { my $l = "line $n\n"; print $c sprintf("%x\r\n%s\r\n", length $l, $l) or last; select(undef, undef, undef, 0.05) }
        print "stream gone\n";
    } elsif ($asked =~ m{^GET /silent}) {
        print "silent asked\n"; my $x = <$c>; print "silent gone\n";
    } elsif ($asked =~ m{^GET /flood}) {
        print $c "HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n"; my $x = join "", map chr($_ % 251), 0 .. 32767; print $c $x for 1 .. 256;
    } elsif ($asked =~ m{^POST /echo}) {
        my $left = $h{"content-length"}; my $sum = 0; my $got = 0;
        while ($left > 0) { my $n = read($c, my $part, $left > 65536 ? 65536 : $left) or last; $left -= $n; $got += $n; $sum = ($sum + unpack("%32C*", $part)) % 4294967296 }
        answer($c, "text/plain", "$got $sum\n");
    } elsif ($asked =~ m{^GET /openapi.json}) {
        answer($c, "application/json", '{"openapi": "3.1.0", "paths": {"/hello/{who}": {"get": {"operationId": "hello", "parameters": [{"name": "who", "in": "path"}]}}}}');
    } elsif (lc($h{upgrade} // "") eq "websocket") {
        my $key = base64(sha1($h{"sec-websocket-key"} . "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        print $c "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: $key\r\n\r\n";
        while (read($c, my $head, 2) == 2) {
            my ($first, $len) = unpack("CC", $head); $len &= 127;
            if ($len == 126) { read($c, my $x, 2); $len = unpack("n", $x) }
            read($c, my $mask, 4); my $data = ""; read($c, $data, $len) if $len;
            $data ^= substr($mask x (int($len / 4) + 1), 0, $len);
            print $c pack("C", $first), $len < 126 ? pack("C", $len) : pack("Cn", 126, $len), $data;
            last if ($first & 15) == 8;
        }
        print "socket gone\n";
    } else { my ($m, $p) = split " ", $asked; answer($c, "text/plain", "$m $p via $h{via}\n") }
    exit;
}
