# syntax=docker/dockerfile:1
# The image of the service: the program, the C library and the CA certificates. It has no shell and no simulator. It is
# built for the architecture of the machine; a release builds it on one machine for each architecture.
#   docker build -t session-checker:dev .

FROM rust:1.95-bookworm AS build
WORKDIR /src
# Adds the list of dependencies to the program, for scanners and SBOM tools.
RUN cargo install --locked --version 0.7.7 cargo-auditable
# Builds the dependencies first, with empty sources: this layer changes only with the manifest.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY benches benches
COPY tests/e2e tests/e2e
COPY tests/model tests/model
COPY simulator simulator
# Some arm64 kernels have pages of 64 KiB. The allocator does not start on them when it was built for smaller pages.
RUN if [ "$(uname -m)" = aarch64 ]; then printf '[env]\nJEMALLOC_SYS_WITH_LG_PAGE = "16"\n' >> "$CARGO_HOME/config.toml"; fi
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
    && cargo auditable build --locked --release --no-default-features
COPY src src
# Cargo compares times: the sources must be newer than what was built from the empty ones.
RUN find src -name '*.rs' -exec touch {} + \
    && cargo auditable build --locked --release --no-default-features

FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="session-checker" \
      org.opencontainers.image.description="A limit on concurrent sessions for Auth0" \
      org.opencontainers.image.source="https://github.com/session-checker/session-checker" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /src/target/release/session-checker /usr/bin/session-checker
USER 65532:65532
# The port for checks, and the admin port.
EXPOSE 3000 9090
ENTRYPOINT ["/usr/bin/session-checker"]
CMD ["serve"]
