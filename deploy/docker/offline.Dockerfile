# syntax=docker/dockerfile:1
# Stand-ins for public images, made from Debian packages and Go sources on a machine without a container registry:
# scripts/images-offline.sh, which makes debian:bookworm-slim itself first. Each has the programs, the paths, the user and
# the entry point of the original that Sightline relies on, and no more.

# The script gives what these stand for, as named contexts.
FROM scratch AS authorities
FROM scratch AS goroot

FROM debian:bookworm-slim AS golang
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl g++ gcc git libc6-dev make pkg-config \
 && rm -rf /var/lib/apt/lists/*
# Authorities of this machine's own, where its way to the Go module proxy needs them. They are in no image of Sightline.
COPY --from=authorities . /usr/local/share/ca-certificates/
RUN update-ca-certificates
COPY --from=goroot . /usr/local/go/
ENV GOTOOLCHAIN=local GOPATH=/go \
    PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN mkdir -p /go/src /go/bin && chmod -R 1777 /go
WORKDIR /go

FROM golang:1.26-bookworm AS nats-build
RUN apt-get update && apt-get install -y --no-install-recommends busybox-static && rm -rf /var/lib/apt/lists/*
ARG NATS_VERSION=v2.15.2
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    --mount=type=secret,id=go-env,target=/root/.config/go/env \
    CGO_ENABLED=0 go install -trimpath -ldflags='-s -w' github.com/nats-io/nats-server/v2@${NATS_VERSION}
WORKDIR /rootfs
RUN mkdir -p bin sbin usr/bin usr/sbin usr/local/bin etc/nats tmp data && chmod 1777 tmp \
 && cp /bin/busybox bin/ && chroot . /bin/busybox --install -s \
 && cp /go/bin/nats-server usr/local/bin/ \
 && printf 'root:x:0:0:root:/root:/bin/sh\nnats:x:1000:1000::/:/bin/sh\n' >etc/passwd \
 && printf 'root:x:0:\nnats:x:1000:\n' >etc/group \
 && printf 'port: 4222\nmonitor_port: 8222\n' >etc/nats/nats-server.conf
COPY --chmod=0755 <<'SH' usr/local/bin/docker-entrypoint.sh
#!/bin/sh
set -e
if [ -z "$1" ] || [ "${1#-}" != "$1" ]; then set -- nats-server "$@"; fi
exec "$@"
SH

FROM scratch AS nats
COPY --from=nats-build /rootfs/ /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
EXPOSE 4222 8222 6222
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["nats-server", "--config", "/etc/nats/nats-server.conf"]

FROM debian:bookworm-slim AS prometheus-build
WORKDIR /deb
RUN apt-get update && apt-get download -o APT::Sandbox::User=root prometheus && dpkg-deb -x prometheus_*.deb .

FROM debian:bookworm-slim AS prometheus
COPY --from=prometheus-build /deb/usr/bin/prometheus /deb/usr/bin/promtool /bin/
COPY --from=prometheus-build /deb/usr/share/prometheus/ /usr/share/prometheus/
COPY --from=prometheus-build /deb/etc/prometheus/prometheus.yml /etc/prometheus/
WORKDIR /prometheus
RUN chown 65534:65534 /prometheus
USER 65534
EXPOSE 9090
ENTRYPOINT ["/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
