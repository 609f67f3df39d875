{{/*
What the schema cannot say: values that contradict each other, and values that are required. All
problems are told at once, each with the value's name and what to do.
*/}}
{{- define "tidegate-service.validate" -}}
{{- $fullname := include "tidegate-service.fullname" . -}}
{{- $problems := list -}}

{{- if not .Values.image.repository -}}
{{- $problems = append $problems "image.repository is empty: name your service's image, for example --set image.repository=registry.example.com/shop/orders" -}}
{{- end -}}
{{- if not (or .Values.image.tag .Values.image.digest) -}}
{{- $problems = append $problems "image.tag and image.digest are both empty: name the release to run, for example --set-string image.tag=1.0" -}}
{{- end -}}

{{- if not .Values.database.secretName -}}
{{- $secret := printf "%s-database" $fullname -}}
{{- $key := .Values.database.urlKey -}}
{{- $create := printf "kubectl create secret generic %s --namespace %s --from-literal=%s='postgresql://USER:PASSWORD@HOST:5432/DATABASE'" $secret .Release.Namespace $key -}}
{{- $problems = append $problems (printf "database.secretName is empty: name the Secret whose key %s holds the database's address. If there is none yet, type\n      %s\n    and add --set database.secretName=%s" $key $create $secret) -}}
{{- end -}}

{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) -}}
{{- $problems = append $problems (printf "a Service cannot be called %q: set fullnameOverride to a name that begins with a letter" $fullname) -}}
{{- end -}}

{{- $owners := dict
  "APP_FILES_DIRECTORY" "files.existingClaim and files.mountPath"
  "DATABASE_URL" "database.secretName and database.urlKey"
  "DIRECT_URL" "database.directUrlKey"
  "FORWARDED_ALLOW_IPS" "trustedProxies"
  "TIDEGATE_ADMIN_PORT" "admin.port"
  "TIDEGATE_CONNECT_TIMEOUT" "migrations.connectTimeoutSeconds"
  "TIDEGATE_DEADLINE" "migrations.deadlineSeconds"
  "TIDEGATE_DRAIN_DELAY" "drain.delaySeconds"
  "TIDEGATE_DRAIN_TIMEOUT" "drain.timeoutSeconds and worker.drain.timeoutSeconds"
  "TIDEGATE_IMAGE" "image"
  "TIDEGATE_LOCK_TIMEOUT" "migrations.lockTimeoutSeconds"
  "TIDEGATE_PORT" "service.port"
-}}
{{- $seen := dict -}}
{{- range .Values.env -}}
{{- if hasKey $owners .name -}}
{{- $problems = append $problems (printf "env sets %s, which this chart writes itself: use %s instead" .name (get $owners .name)) -}}
{{- else if hasKey $seen .name -}}
{{- $problems = append $problems (printf "env sets %s twice: Kubernetes refuses that, so keep one" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}

{{- range $label := list "name" "instance" "component" "version" -}}
{{- if hasKey $.Values.podLabels (printf "app.kubernetes.io/%s" $label) -}}
{{- $problems = append $problems (printf "podLabels sets app.kubernetes.io/%s, which this chart writes itself: use another label" $label) -}}
{{- end -}}
{{- end -}}

{{- if eq (.Values.admin.port | int) (include "tidegate-service.port" . | int) -}}
{{- $problems = append $problems (printf "admin.port is %d, where the service itself listens: choose another, for example 9000" (.Values.admin.port | int)) -}}
{{- end -}}
{{- if and .Values.service.nodePort (eq .Values.service.type "ClusterIP") -}}
{{- $problems = append $problems "service.nodePort is set, but service.type is ClusterIP: set service.type to NodePort or LoadBalancer" -}}
{{- end -}}
{{- if eq (include "tidegate-service.serviceAccountName" .) (include "tidegate-service.migrationName" .) -}}
{{- $problems = append $problems (printf "serviceAccount.name is %s-migrate, which belongs to the migration and is made anew at every release: choose another" $fullname) -}}
{{- end -}}

{{- if and .Values.worker.enabled (not .Values.worker.args) -}}
{{- $problems = append $problems "worker.enabled needs worker.args: the command that works off the queue, for example [python, -m, orders, worker]" -}}
{{- end -}}

{{- if .Values.autoscaling.enabled -}}
{{- if lt (.Values.autoscaling.maxReplicas | int) (.Values.autoscaling.minReplicas | int) -}}
{{- $problems = append $problems (printf "autoscaling.maxReplicas (%d) is below autoscaling.minReplicas (%d)" (.Values.autoscaling.maxReplicas | int) (.Values.autoscaling.minReplicas | int)) -}}
{{- end -}}
{{- $requests := .Values.resources.requests | default dict -}}
{{- $limits := .Values.resources.limits | default dict -}}
{{- if not (or $requests.cpu $limits.cpu) -}}
{{- $problems = append $problems "autoscaling.enabled needs resources.requests.cpu: the autoscaler aims at a percentage of it" -}}
{{- end -}}
{{- end -}}

{{- $stop := include "tidegate-service.stopSeconds" . | int64 -}}
{{- $waits := add .Values.migrations.lockTimeoutSeconds .Values.migrations.connectTimeoutSeconds .Values.migrations.deadlineSeconds $stop -}}
{{- if and (eq .Values.migrations.strategy "hook") (le (.Values.migrations.activeDeadlineSeconds | int64) $waits) -}}
{{- $problems = append $problems (printf "migrations.activeDeadlineSeconds (%d) is not above migrations.lockTimeoutSeconds + migrations.connectTimeoutSeconds + migrations.deadlineSeconds + %d (%d): the Job would be killed before it can say what it waited for" (.Values.migrations.activeDeadlineSeconds | int64) $stop $waits) -}}
{{- end -}}

{{- if $problems -}}
{{- fail (printf "\n\nThese values do not make a release:\n  - %s\n" (join "\n  - " $problems)) -}}
{{- end -}}
{{- end }}
