# syntax=docker/dockerfile:1
# The server. Models, sessions, keys and config.json are in the volume /data:
#   docker build -t tmem .
#   docker run --rm -v tmem:/data tmem keys create me
#   docker run -p 8484:8484 -v tmem:/data --stop-timeout 40 tmem
FROM node:24-trixie-slim AS build
WORKDIR /opt/tmem
COPY package.json package-lock.json ./
RUN npm ci
COPY . .
RUN npm run build && npm prune --omit=dev

FROM node:24-trixie-slim
ENV NODE_ENV=production TMEM_HOME=/data
WORKDIR /opt/tmem
COPY --from=build /opt/tmem/package.json /opt/tmem/README.md /opt/tmem/LICENSE ./
COPY --from=build /opt/tmem/node_modules node_modules
COPY --from=build /opt/tmem/assets assets
COPY --from=build /opt/tmem/docs docs
COPY --from=build /opt/tmem/src src
COPY --from=build /opt/tmem/dist dist
RUN ln -s /opt/tmem/dist/cli/main.js /usr/local/bin/tmem && chmod +x dist/cli/main.js && \
    mkdir /data && chown node:node /data
USER node
VOLUME /data
EXPOSE 8484
# Loading a model takes a while, fetching it at the first start longer.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m \
  CMD ["node", "-e", "fetch('http://127.0.0.1:8484/health').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["tmem"]
# Without keys it does not start, unless it is told --insecure: everybody who reaches the port could use it.
CMD ["serve", "--host", "0.0.0.0"]
