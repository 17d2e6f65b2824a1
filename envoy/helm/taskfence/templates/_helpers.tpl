{{- define "taskfence.hub" -}}
{{ .Release.Name }}-hub
{{- end }}

{{- define "taskfence.labels" -}}
app.kubernetes.io/name: taskfence-hub
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "taskfence.selector" -}}
app.kubernetes.io/name: taskfence-hub
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "taskfence.host" -}}
{{ include "taskfence.hub" . }}.{{ .Release.Namespace }}.svc.cluster.local
{{- end }}

{{- define "taskfence.uses_agent" -}}
{{- if and .Values.istio.enabled .Values.istio.agent }}true{{ end -}}
{{- end }}

{{/* hub.yaml: what the values say, and what the chart knows better. */}}
{{- define "taskfence.hub_yaml" -}}
{{- $config := deepCopy .Values.hub -}}
{{- $_ := set $config "data" "/var/lib/taskfence/data" -}}
{{- $tls := dict "certificate" "/etc/taskfence/tls/tls.crt" "key" "/etc/taskfence/tls/tls.key" -}}
{{- if include "taskfence.uses_agent" . -}}
{{- $tls = dict "certificate" "/var/lib/istio/data/cert-chain.pem" "key" "/var/lib/istio/data/key.pem" "client_ca" "/var/lib/istio/data/root-cert.pem" -}}
{{- $mesh := dict "spiffe" (printf "spiffe://%s/" .Values.istio.trustDomain) "role" "sidecar" -}}
{{- $_ := set $config "access" (append ($config.access | default list) $mesh) -}}
{{- else if .Values.tls.clientCaSecret.name -}}
{{- $_ := set $tls "client_ca" (printf "/etc/taskfence/client-ca/%s" .Values.tls.clientCaSecret.key) -}}
{{- end -}}
{{- $_ := set $config "listen" (dict "address" (printf "0.0.0.0:%d" (int .Values.service.port)) "tls" $tls) -}}
{{- if eq .Values.store "postgresql" -}}
{{- $store := dict "url" (required "postgresql.url is missing: write the URL of the database" .Values.postgresql.url) -}}
{{- if .Values.postgresql.passwordSecret.name -}}
{{- $_ := set $store "password_file" (printf "/etc/taskfence/db-password/%s" .Values.postgresql.passwordSecret.key) -}}
{{- end -}}
{{- if .Values.postgresql.caSecret.name -}}
{{- $_ := set $store "ca" (printf "/etc/taskfence/db-ca/%s" .Values.postgresql.caSecret.key) -}}
{{- end -}}
{{- $_ := set $config "store" (dict "postgres" $store) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{/* The pod of the hub, for both kinds of store. */}}
{{- define "taskfence.pod" -}}
metadata:
  labels:
    {{- include "taskfence.selector" . | nindent 4 }}
    {{- if include "taskfence.uses_agent" . }}
    sidecar.istio.io/inject: "true"
    {{- else }}
    # The hub must not wait for its own filter.
    sidecar.istio.io/inject: "false"
    istio.io/dataplane-mode: none
    {{- end }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    # A changed configuration starts the hub again.
    checksum/config: {{ include "taskfence.hub_yaml" . | sha256sum }}
    {{- if include "taskfence.uses_agent" . }}
    # Istio's agent alone: it keeps the certificate of the hub, and there is no Envoy in the pod.
    inject.istio.io/templates: grpc-agent
    proxy.istio.io/config: '{"holdApplicationUntilProxyStarts": true}'
    {{- end }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "taskfence.hub" . }}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 45
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    # Istio's agent writes the key as 1337, for itself alone.
    runAsUser: {{ if include "taskfence.uses_agent" . }}1337{{ else }}65532{{ end }}
    runAsGroup: {{ if include "taskfence.uses_agent" . }}1337{{ else }}65532{{ end }}
    fsGroup: {{ if include "taskfence.uses_agent" . }}1337{{ else }}65532{{ end }}
    seccompProfile: { type: RuntimeDefault }
  containers:
    - name: hub
      image: "{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [hub, --config, /etc/taskfence/config/hub.yaml, --drain, {{ .Values.drain | quote }}]
      ports:
        - { name: https, containerPort: {{ .Values.service.port }} }
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      startupProbe:
        httpGet: { path: /livez, port: https, scheme: HTTPS }
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /livez, port: https, scheme: HTTPS }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: https, scheme: HTTPS }
        periodSeconds: 5
        timeoutSeconds: 5
      resources: {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        # A volume of SQLite belongs to root at its top; the hub makes `data` in it, for itself alone.
        - { name: data, mountPath: {{ eq .Values.store "sqlite" | ternary "/var/lib/taskfence" "/var/lib/taskfence/data" }} }
        - { name: config, mountPath: /etc/taskfence/config, readOnly: true }
        {{- if not (include "taskfence.uses_agent" .) }}
        - { name: tls, mountPath: /etc/taskfence/tls, readOnly: true }
        {{- if .Values.tls.clientCaSecret.name }}
        - { name: client-ca, mountPath: /etc/taskfence/client-ca, readOnly: true }
        {{- end }}
        {{- end }}
        {{- if eq .Values.store "postgresql" }}
        - { name: keys, mountPath: /var/lib/taskfence/data/keys, readOnly: true }
        {{- if .Values.postgresql.passwordSecret.name }}
        - { name: db-password, mountPath: /etc/taskfence/db-password, readOnly: true }
        {{- end }}
        {{- if .Values.postgresql.caSecret.name }}
        - { name: db-ca, mountPath: /etc/taskfence/db-ca, readOnly: true }
        {{- end }}
        {{- end }}
        {{- range .Values.secretFiles }}
        - { name: "secret-{{ . }}", mountPath: "/etc/taskfence/secrets/{{ . }}", readOnly: true }
        {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq .Values.store "postgresql" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "taskfence.selector" . | nindent 10 }}
  {{- end }}
  volumes:
    - name: config
      secret: { secretName: {{ include "taskfence.hub" . }}-config, defaultMode: 0440 }
    {{- if not (include "taskfence.uses_agent" .) }}
    - name: tls
      secret: { secretName: {{ .Values.tls.secret }}, defaultMode: 0440 }
    {{- if .Values.tls.clientCaSecret.name }}
    - name: client-ca
      secret: { secretName: {{ .Values.tls.clientCaSecret.name }}, defaultMode: 0440 }
    {{- end }}
    {{- end }}
    {{- if eq .Values.store "postgresql" }}
    - name: data
      emptyDir: {}
    - name: keys
      secret: { secretName: {{ required "postgresql.keysSecret is missing: replicas must sign with the same key" .Values.postgresql.keysSecret }}, defaultMode: 0440 }
    {{- if .Values.postgresql.passwordSecret.name }}
    - name: db-password
      secret: { secretName: {{ .Values.postgresql.passwordSecret.name }}, defaultMode: 0440 }
    {{- end }}
    {{- if .Values.postgresql.caSecret.name }}
    - name: db-ca
      secret: { secretName: {{ .Values.postgresql.caSecret.name }}, defaultMode: 0440 }
    {{- end }}
    {{- end }}
    {{- range .Values.secretFiles }}
    - name: "secret-{{ . }}"
      secret: { secretName: {{ . }}, defaultMode: 0440 }
    {{- end }}
{{- end }}

{{/* The configuration of a filter, with the way to the hub. Takes a dict: root, cluster. */}}
{{- define "taskfence.filter" -}}
{{- $config := deepCopy .root.Values.filter.config -}}
{{- $signals := $config.signals | default dict -}}
{{- $hub := $signals.hub | default dict -}}
{{- $_ := set $hub "cluster" .cluster -}}
{{- $_ := set $hub "host" (include "taskfence.host" .root) -}}
{{- $_ := set $signals "hub" $hub -}}
{{- $_ := set $config "signals" $signals -}}
{{- toYaml $config -}}
{{- end }}

{{- define "taskfence.module" -}}
{{ .Values.filter.image }}@{{ required "filter.digest is missing: write the digest of the module's image, for a tag may be moved" .Values.filter.digest }}
{{- end }}
