{{/* What every object is called. Dots may stand in a release's name, but not in a Service's. */}}
{{- define "tidegate-service.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | replace "." "-" | trunc 53 | trimAll "-" -}}
{{- end }}

{{- define "tidegate-service.name" -}}
{{- .Values.nameOverride | default .Release.Name | trunc 63 | trimAll "-._" -}}
{{- end }}

{{/* What Services, budgets and Deployments select by. Pass (list $ "component"). */}}
{{- define "tidegate-service.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "tidegate-service.name" $root | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/*
The labels of a pod: no chart version and no Helm among them, so that a newer chart which changes
nothing does not roll the pods. Pass (list $ "component").
*/}}
{{- define "tidegate-service.podLabels" -}}
{{ include "tidegate-service.selectorLabels" . }}
app.kubernetes.io/version: {{ include "tidegate-service.version" (index . 0) | quote }}
{{- end }}

{{/* The labels of any other object. Pass (list $ "component"). */}}
{{- define "tidegate-service.labels" -}}
{{- $root := index . 0 -}}
{{ include "tidegate-service.podLabels" . }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{/* The image's version in the alphabet of a label's value: the tag, else the digest's first digits. */}}
{{- define "tidegate-service.version" -}}
{{- .Values.image.tag | default (.Values.image.digest | trimPrefix "sha256:" | trunc 12) | trunc 63 | trimAll "-._" -}}
{{- end }}

{{- define "tidegate-service.image" -}}
{{- .Values.image.repository -}}
{{- with .Values.image.tag }}:{{ . }}{{ end -}}
{{- with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end }}

{{- define "tidegate-service.serviceAccountName" -}}
{{- $default := ternary (include "tidegate-service.fullname" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $default -}}
{{- end }}

{{- define "tidegate-service.migrationName" -}}
{{- printf "%s-migrate" (include "tidegate-service.fullname" .) -}}
{{- end }}

{{- define "tidegate-service.workerName" -}}
{{- printf "%s-worker" (include "tidegate-service.fullname" .) -}}
{{- end }}

{{/* The port of the service's container. Not a value: whoever calls the service calls its Service. */}}
{{- define "tidegate-service.port" -}}8000{{- end }}

{{/* How long before the Job's deadline its pod is told to stop. */}}
{{- define "tidegate-service.stopSeconds" -}}15{{- end }}

{{/* Where the service and the worker keep files. */}}
{{- define "tidegate-service.filesEnv" -}}
{{- if .Values.files.existingClaim -}}
- name: APP_FILES_DIRECTORY
  value: {{ .Values.files.mountPath | quote }}
{{- end }}
{{- end }}

{{/* The chart's environment in every container. _validate.tpl keeps the user's from repeating it. */}}
{{- define "tidegate-service.env" -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.secretName | quote }}
      key: {{ .Values.database.urlKey | quote }}
{{- with .Values.database.directUrlKey }}
- name: DIRECT_URL
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.database.secretName | quote }}
      key: {{ . | quote }}
{{- end }}
- name: TIDEGATE_IMAGE
  value: {{ include "tidegate-service.image" . | quote }}
{{- end }}

{{/* Whether pods have the volume for files, as "true" or "". Pass (list $ "component"). */}}
{{- define "tidegate-service.hasFiles" -}}
{{- if and (index . 0).Values.files.existingClaim (has (index . 1) (list "service" "worker")) -}}true{{- end -}}
{{- end }}

{{/*
What the pods of the service, the worker, the migration and the test have in common. Pass
(list $ "component").
*/}}
{{- define "tidegate-service.podBasics" -}}
{{- $files := include "tidegate-service.hasFiles" . -}}
{{- with index . 0 -}}
automountServiceAccountToken: false
# The addresses of other Services, put into the environment, would pass for this service's settings:
# a Service called "app" makes APP_PORT=tcp://10.96.3.7:80.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- $security := .Values.podSecurityContext }}
  {{- if and $files $security.runAsGroup }}
  {{- $security = merge dict $security (dict "fsGroup" (int64 $security.runAsGroup) "fsGroupChangePolicy" "OnRootMismatch") }}
  {{- end }}
  {{- toYaml $security | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {}
  {{- if $files }}
  - name: files
    persistentVolumeClaim:
      claimName: {{ .Values.files.existingClaim | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What their containers have in common. Pass (list $ "component"). */}}
{{- define "tidegate-service.containerBasics" -}}
{{- $files := include "tidegate-service.hasFiles" . -}}
{{- with index . 0 -}}
image: {{ include "tidegate-service.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
# Where a process dies before it can say why, the end of its log says it.
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- if $files }}
  - name: files
    mountPath: {{ .Values.files.mountPath | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What a container that has an admin port opens and is asked there. */}}
{{- define "tidegate-service.adminPort" -}}
- name: admin
  containerPort: {{ .Values.admin.port | int }}
{{- end }}

{{- define "tidegate-service.probes" -}}
livenessProbe:
  {{- include "tidegate-service.probe" (list "/health/live" .Values.probes.liveness) | nindent 2 }}
readinessProbe:
  {{- include "tidegate-service.probe" (list "/health/ready" .Values.probes.readiness) | nindent 2 }}
startupProbe:
  {{- include "tidegate-service.probe" (list "/health/startup" .Values.probes.startup) | nindent 2 }}
{{- end }}

{{/* How the pods of a Deployment spread. Pass (list $ "component"). */}}
{{- define "tidegate-service.spread" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- with $root.Values.topologySpreadConstraints -}}
topologySpreadConstraints:
  {{- range . }}
  - {{ toYaml . | indent 4 | trim }}
    {{- if not .labelSelector }}
    labelSelector:
      matchLabels:
        {{- include "tidegate-service.selectorLabels" (list $root $component) | nindent 8 }}
    {{- if not .matchLabelKeys }}
    matchLabelKeys: [pod-template-hash]
    {{- end }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Labels and annotations of a Deployment's pods. Pass (list $ "component"). */}}
{{- define "tidegate-service.podMetadata" -}}
{{- $root := index . 0 -}}
labels:
  {{- include "tidegate-service.podLabels" . | nindent 2 }}
  {{- with $root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $root.Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Pass (list "path" .Values.probes.<which>). */}}
{{- define "tidegate-service.probe" -}}
{{- $probe := index . 1 -}}
httpGet:
  path: {{ index . 0 }}
  port: admin
periodSeconds: {{ $probe.periodSeconds | int }}
timeoutSeconds: {{ $probe.timeoutSeconds | int }}
failureThreshold: {{ $probe.failureThreshold | int }}
{{- end }}
