# Two images from one file:
#   docker build -t pgtether .                        the proxy: a static binary and nothing else, as an unprivileged user
#   docker build -t pgtether:trial --target trial .   a PostgreSQL pair with the proxy in front, to try it out:
#                                                     docker run --rm -p 6432:6432 -p 7432:7432 pgtether:trial
# The base images are arguments, so that a site can name its own copies.
ARG GO_IMAGE=docker.io/library/golang:1.26-bookworm
ARG POSTGRES_IMAGE=docker.io/library/postgres:18-bookworm

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
ENV CGO_ENABLED=0 GOFLAGS=-buildvcs=false
RUN go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/usr/local/bin/pgtether ./cmd/pgtether \
 && mkdir -p /out/etc/ssl/certs /out/etc/pgtether /out/var/lib/pgtether /trial/usr/local/share/pgtether \
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
 && cp configs/sql/probe-role.sql /trial/usr/local/share/pgtether/ \
 && printf 'pgtether:x:65532:65532::/var/lib/pgtether:/nonexistent\n' > /out/etc/passwd \
 && printf 'pgtether:x:65532:\n' > /out/etc/group \
 && chown 65532:65532 /out/var/lib/pgtether && chmod 0700 /out/var/lib/pgtether

# The trial: whatever PostgreSQL the base image carries. It keeps nothing: the pair lives in a temporary directory.
FROM ${POSTGRES_IMAGE} AS trial
COPY --from=build /out/usr/local/bin/pgtether /usr/local/bin/pgtether
COPY --from=build /trial/ /
USER postgres
WORKDIR /tmp
EXPOSE 6432 7432
ENV PGTETHER_ADMIN=http://127.0.0.1:7432
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["/usr/local/bin/pgtether", "status"]
ENTRYPOINT ["/usr/local/bin/pgtether", "lab", "--proxy", "--probe-role-sql", "/usr/local/share/pgtether/probe-role.sql"]
CMD ["--listen", "0.0.0.0:6432", "--admin-listen", "0.0.0.0:7432"]

# The proxy, last, so that it is what a plain build makes. Mount a configuration at /etc/pgtether/pgtether.toml and keep
# /var/lib/pgtether: it holds the epoch.
FROM scratch AS proxy
COPY --from=build /out/ /
USER 65532:65532
EXPOSE 6432 7432
VOLUME ["/var/lib/pgtether"]
ENV PGTETHER_CONFIG=/etc/pgtether/pgtether.toml
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s CMD ["/usr/local/bin/pgtether", "status"]
ENTRYPOINT ["/usr/local/bin/pgtether"]
CMD ["serve"]
