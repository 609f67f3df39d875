{{- define "tidegate-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "tidegate-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "tidegate-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "tidegate-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.create is false: set serviceAccount.name to one that exists." .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "tidegate-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tidegate-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "tidegate-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "tidegate-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "tidegate-operator.image" -}}
{{- $repository := required "image.repository is empty: set it to where the operator's image was pushed, for example registry.example.com/platform/tidegate-operator." .Values.image.repository }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* All that the operator may do. tests/operator/test_rbac.py holds it against what it does. */}}
{{- define "tidegate-operator.rules" -}}
# The gates: list and watch to hear of them, get to decide from what is true now.
- apiGroups: [tidegate.dev]
  resources: [schemagates]
  verbs: [get, list, watch]
# The one thing it writes. No finalizers, and nothing on the gate but its status.
- apiGroups: [tidegate.dev]
  resources: [schemagates/status]
  verbs: [patch]
# How a rollout stands: list and watch to hear of a change, get to read it.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch]
# The migration Jobs: watch to hear of a change, list (by label) to find a gate's newest.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch]
# The report stands in the termination message of the Job's pod.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- end }}
